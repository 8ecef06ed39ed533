//! How far a long step is: one line on stderr, gone when text comes. The only file that names indicatif.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress line.
pub struct Progress {
    shown: bool,
    /// The line that is up, with its total.
    bar: Option<(ProgressBar, u64)>,
}

impl Progress {
    /// Shown, or never.
    pub fn new(shown: bool) -> Progress {
        Progress { shown, bar: None }
    }

    /// Puts the line up or changes it. `total` 0 is "unknown".
    pub fn show(&mut self, done: u64, total: u64, label: &str) {
        if !self.shown {
            return;
        }
        if self.bar.as_ref().is_none_or(|(_, of)| *of != total) {
            self.clear();
        }
        let (bar, _) = self.bar.get_or_insert_with(|| (new_bar(total), total));
        let label = super::console::sanitized(label);
        if bar.message() != label {
            bar.set_message(label.into_owned());
        }
        bar.set_position(done);
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let Some((bar, _)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(total: u64) -> ProgressBar {
    let (length, template) =
        if total == 0 { (None, "{msg} {pos}") } else { (Some(total), "{msg} [{bar:24}] {percent}%") };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr_with_hz(10));
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
