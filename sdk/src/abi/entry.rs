//! The extension's half of the border: its table, built once from the registered commands, and the guards around
//! every call from the host. A panic stops here and becomes a status and one line of output.

use super::*;
use crate::command::Command;
use crate::error::Error;
use crate::session::Session;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The table of this library and everything it points to.
pub struct Registry {
    table: Extension,
    commands: Vec<&'static Command>,
    infos: Vec<CommandInfo>,
    aliases: Vec<Vec<RStr<'static>>>,
    layouts: Vec<BlockLayout>,
    built_by: String,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(core::ptr::null_mut());

/// The table of this library, built at the first call; null if that panics. Called by `kdext_entry`, which
/// [`crate::export_extension!`] defines.
pub fn make_registry(
    package: &'static str,
    version: &'static str,
    summary: &'static str,
) -> *const Extension {
    take_notes_of_panics();
    catch_unwind(|| build(package, version, summary)).unwrap_or(core::ptr::null())
}

fn build(package: &'static str, version: &'static str, summary: &'static str) -> *const Extension {
    let existing = REGISTRY.load(Ordering::Acquire);
    if !existing.is_null() {
        // SAFETY: set below, freed only by `free_registry`, the last call into the library.
        return unsafe { &raw const (*existing).table };
    }
    let mut commands: Vec<&'static Command> = inventory::iter::<Command>.into_iter().collect();
    commands.sort_by_key(|command| command.name);
    let mut registry = Box::new(Registry {
        table: Extension {
            magic: MAGIC,
            size: size_of::<Extension>() as u32,
            abi_major: MAJOR,
            abi_minor: MINOR,
            min_host_minor: MINOR,
            reserved: [0; 3],
            v1: ExtensionV1 {
                name: RStr::from_str(package.strip_prefix("kdext-").unwrap_or(package)),
                version: RStr::from_str(version),
                built_by: RStr::from_str(""),
                summary: RStr::from_str(summary),
                commands: RSlice::from_slice(&[]),
                run: Some(run),
                // The SDK keeps nothing from one command to the next.
                notify: None,
                unload: Some(free_registry),
                abi_header: abi_header(),
                layouts: core::ptr::null(),
                layout_count: 0,
            },
        },
        aliases: commands.iter().map(|c| c.aliases.iter().map(|&a| RStr::from_str(a)).collect()).collect(),
        commands,
        infos: Vec::new(),
        layouts: host_blocks().into_iter().chain(extension_blocks()).collect(),
        built_by: format!("kd-sdk {}", env!("CARGO_PKG_VERSION")),
    });
    registry.infos = registry
        .commands
        .iter()
        .zip(&registry.aliases)
        .map(|(command, aliases)| CommandInfo {
            name: RStr::from_str(command.name),
            // SAFETY: the vectors live in the boxed registry and are not touched again.
            aliases: unsafe { RSlice::from_raw_parts(aliases.as_ptr(), aliases.len()) },
            summary: RStr::from_str(command.summary),
            usage: RStr::from_str(command.usage),
            help: RStr::from_str(command.help),
            needs: command.needs,
            reserved: 0,
        })
        .collect();
    // SAFETY: as above: what these point to lives exactly as long as the table.
    unsafe {
        registry.table.v1.commands = RSlice::from_raw_parts(registry.infos.as_ptr(), registry.infos.len());
        registry.table.v1.built_by =
            RStr::from_raw_parts(registry.built_by.as_ptr(), registry.built_by.len());
    }
    registry.table.v1.layouts = registry.layouts.as_ptr().cast();
    registry.table.v1.layout_count = registry.layouts.len() as u64;
    let registry = Box::into_raw(registry);
    REGISTRY.store(registry, Ordering::Release);
    // SAFETY: just made.
    unsafe { &raw const (*registry).table }
}

/// [`ExtensionV1::unload`] of every Rust extension: frees the table.
pub extern "C" fn free_registry() -> i32 {
    let registry = REGISTRY.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !registry.is_null() {
        // SAFETY: made by `Box::into_raw` in `make_registry`, swapped out exactly once.
        drop(unsafe { Box::from_raw(registry) });
    }
    status::OK
}

thread_local! {
    /// Where the last panic on this thread happened, left by the hook for the guard.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Replaces this library's own panic hook (std is linked into each extension) by one that only takes notes.
fn take_notes_of_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let what = info
                .payload()
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| info.payload().downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a panic without text".to_owned());
            let place = info
                .location()
                .map(|l| format!(" at {}:{}:{}", l.file(), l.line(), l.column()))
                .unwrap_or_default();
            // A thread that is ending has no place for notes any more.
            let _ = PANIC.try_with(|note| note.replace(Some(format!("{what}{place}"))));
        }));
    });
}

/// [`ExtensionV1::run`] of every Rust extension.
///
/// # Safety
/// `host` is a valid table for the duration of the call.
pub unsafe extern "C" fn run(host: *const Host, index: u32, args: RStr<'_>) -> i32 {
    take_notes_of_panics();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let registry = REGISTRY.load(Ordering::Acquire);
        // SAFETY: the host calls `run` only between `kdext_entry` and `unload`.
        let command = unsafe { registry.as_ref() }.and_then(|r| r.commands.get(index as usize).copied());
        // SAFETY: the caller's promise.
        let (Some(command), Some(session)) = (command, unsafe { Calls::new(host) }.map(Session::new)) else {
            return status::INVALID;
        };
        match (command.run)(&session, args.as_str()) {
            Ok(()) => status::OK,
            Err(Error::ContinueSearch) => status::CONTINUE_SEARCH,
            Err(error) => {
                let code = error.status();
                if code != status::INTERRUPTED {
                    session.out().error(&session.explain(&error));
                }
                code
            }
        }
    }));
    outcome.unwrap_or_else(|payload| {
        // Whatever else was thrown may panic again when it is dropped.
        if !payload.is::<&str>() && !payload.is::<String>() {
            core::mem::forget(payload);
        }
        let note = PANIC.try_with(RefCell::take).ok().flatten();
        // Even the report must not unwind across the border.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: as above.
            if let Some(session) = unsafe { Calls::new(host) }.map(Session::new) {
                // SAFETY: as above.
                let command = unsafe { REGISTRY.load(Ordering::Acquire).as_ref() }
                    .and_then(|registry| registry.commands.get(index as usize))
                    .map_or("?", |command| command.name);
                let text = format!("!{command} panicked: {}", note.as_deref().unwrap_or("no details"));
                session.out().error(&text);
            }
        }));
        status::PANICKED
    })
}
