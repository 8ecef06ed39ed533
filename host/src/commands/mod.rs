//! kd's own commands. A command is a row of data; a family of them is a file.

mod absent;
mod aliases;
mod builtin_help;
pub mod code;
mod context;
mod descriptors;
mod display;
mod dump_info;
mod dx;
mod evaluate;
mod extensions;
mod files;
pub mod frames;
mod general;
mod hold;
mod image_scan;
mod lists;
mod locals;
mod modules;
mod paths;
mod printf;
mod program;
mod registers;
mod reload;
mod search;
mod settings;
mod shell;
mod source;
pub mod stack;
mod state;
mod switches;
mod symbols;
mod systems;
mod terminal;
mod types;
mod walk_list;
mod word;
mod write_dump;

pub use absent::why_not;
pub use aliases::Aliases;
pub use builtin_help::completions;
pub use display::LastDisplay;
pub use dump_info::{print_banner, show_bug_check_line};
pub use extensions::extension_help;
pub(crate) use paths::{DEFERRED, LOAD_LINES, NOISY};
pub use program::Program;
pub use settings::Kept;
pub use source::SourceFile;
pub use state::Shelf;
pub use word::{Word, split_commands};

use crate::session::Session;
use kd_sdk::error::Result;
use kd_sdk::output::Out;

/// What a command needs before it is worth running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// An open dump.
    Target,
}

/// A row of the table of commands.
pub struct Builtin {
    /// The name it goes by, then others.
    pub names: &'static [&'static str],
    /// Arguments.
    pub usage: &'static str,
    /// One line.
    pub summary: &'static str,
    /// More, for `.help NAME`.
    pub help: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Runs it.
    pub run: fn(&mut Session, &Out<'_>, &Call<'_>) -> Result<()>,
}

/// One call of a command.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The name it was called by, as it stands in the table.
    pub name: &'static str,
    /// The rest of the command, trimmed.
    pub args: &'a str,
    /// The processor prefix, as in `3r`.
    pub processor: Option<u32>,
}

/// Every family.
const FAMILIES: [&[Builtin]; 33] = [
    general::ROWS,
    systems::ROWS,
    dump_info::ROWS,
    modules::ROWS,
    registers::ROWS,
    stack::ROWS,
    code::ROWS,
    context::ROWS,
    display::ROWS,
    evaluate::ROWS,
    search::ROWS,
    lists::ROWS,
    aliases::ROWS,
    program::ROWS,
    symbols::ROWS,
    locals::ROWS,
    types::ROWS,
    dx::ROWS,
    source::ROWS,
    paths::ROWS,
    reload::ROWS,
    extensions::ROWS,
    settings::ROWS,
    descriptors::ROWS,
    walk_list::ROWS,
    files::ROWS,
    shell::ROWS,
    state::ROWS,
    hold::ROWS,
    switches::ROWS,
    terminal::ROWS,
    image_scan::ROWS,
    write_dump::ROWS,
];

/// Every row.
pub fn rows() -> impl Iterator<Item = &'static Builtin> {
    FAMILIES.iter().flat_map(|rows| rows.iter()).chain(builtin_help::ROWS)
}
