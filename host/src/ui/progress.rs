//! How far a long step is: one line on stderr, gone when text comes. The only file that names indicatif.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress line.
pub struct Progress {
    shown: bool,
    bar: Option<ProgressBar>,
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
        let bar = self.bar.get_or_insert_with(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
        });
        if bar.length().unwrap_or(0) != total || bar.position() > done {
            let template = if total == 0 { "{msg} {pos}" } else { "{msg} {bar:24} {percent}%" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_length(total);
        }
        if bar.message() != label {
            bar.set_message(super::console::sanitized(label).into_owned());
        }
        bar.set_position(done);
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
