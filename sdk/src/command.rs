//! Commands as data: a row with name, usage and help, and the function that runs it.

use crate::error::Result;
use crate::session::Session;

/// One `!` command. Made by [`crate::kd_command!`].
pub struct Command {
    /// Name without `!`, lower case.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// One line.
    pub summary: &'static str,
    /// Arguments, `[-v] [ADDRESS]`.
    pub usage: &'static str,
    /// The long help text, shown by `!help NAME`.
    pub help: &'static str,
    /// Bits of [`crate::abi::needs`].
    pub needs: u32,
    /// Runs it with the text after the name, trimmed.
    pub run: fn(&Session<'_>, &str) -> Result<()>,
}

inventory::collect!(Command);

/// Registers a command. Put it in the extension's own crate: rows in a library crate nobody names are dropped by
/// the linker.
///
/// `name`, `summary`, `usage` and `run` are required, in this order; `aliases`, `help` and `needs` may follow.
#[macro_export]
macro_rules! kd_command {
    (
        name: $name:expr,
        summary: $summary:expr,
        usage: $usage:expr,
        run: $run:expr
        $(, aliases: $aliases:expr)?
        $(, help: $help:expr)?
        $(, needs: $needs:expr)?
        $(,)?
    ) => {
        $crate::inventory::submit! {
            $crate::command::Command {
                name: $name,
                summary: $summary,
                usage: $usage,
                run: $run,
                $(aliases: $aliases,)?
                $(help: $help,)?
                $(needs: $needs,)?
                ..$crate::command::Command::EMPTY
            }
        }
    };
}

impl Command {
    /// The values that [`crate::kd_command!`] starts from.
    pub const EMPTY: Command = Command {
        name: "",
        aliases: &[],
        summary: "",
        usage: "",
        help: "",
        needs: crate::abi::needs::TARGET,
        run: |_, _| Ok(()),
    };
}

/// Exports the library as an extension named after its package (`kdext-NAME`).
#[macro_export]
macro_rules! export_extension {
    (summary: $summary:expr $(,)?) => {
        #[cfg(not(panic = "unwind"))]
        compile_error!("an extension must be built with panic = \"unwind\"");

        /// The one symbol kd looks for.
        #[unsafe(no_mangle)]
        pub extern "C" fn kdext_entry() -> *const $crate::abi::Extension {
            $crate::abi::make_registry(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), $summary)
        }
    };
}
