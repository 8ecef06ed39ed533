//! An extension table made by hand, with whatever mistakes `KDEXT_ODD` asks for: what a careless C author may give
//! kd. Its one good command calls the host in every wrong way that must not hurt.
#![allow(unsafe_code, clippy::unwrap_used)] // mistakes on purpose

use kd_sdk::abi::*;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

/// Notes taken: the event in the low byte, the latest last.
static NOTES: AtomicU64 = AtomicU64::new(0);

fn text(text: &'static str) -> RStr<'static> {
    RStr::from_str(text)
}

fn odd_text(bytes: &'static [u8], length: usize) -> RStr<'static> {
    unsafe { RStr::from_raw_parts(bytes.as_ptr(), length) }
}

fn null_text(length: usize) -> RStr<'static> {
    unsafe { RStr::from_raw_parts(null(), length) }
}

/// The entry point.
#[unsafe(no_mangle)]
pub extern "C" fn kdext_entry() -> *const Extension {
    let odd = std::env::var("KDEXT_ODD").unwrap_or_default();
    let commands = vec![
        command("raw", text("Calls the host in odd ways")),
        command("notes", null_text(0)),
        command("latin", odd_text(b"caf\xe9", 4)),
    ];
    let commands: &'static [CommandInfo] = commands.leak();
    let mut table = Extension {
        magic: MAGIC,
        size: size_of::<Extension>() as u32,
        abi_major: MAJOR,
        abi_minor: MINOR,
        min_host_minor: MINOR,
        reserved: [0; 3],
        v1: ExtensionV1 {
            name: text("odd"),
            version: null_text(0),
            built_by: odd_text(b"\xff\xfe", 2),
            summary: text("Odd"),
            commands: RSlice::from_slice(commands),
            run: Some(run),
            notify: Some(notify),
            unload: None,
            abi_header: null(),
            layouts: null(),
            layout_count: 0,
        },
    };
    match odd.as_str() {
        "null" => return null(),
        "crooked" => return null::<Extension>().wrapping_byte_add(3),
        "magic" => table.magic += 1,
        "major" => table.abi_major += 1,
        "minor" => table.abi_minor += 1,
        "newer" => table.min_host_minor += 1,
        "small" => table.size = 40,
        "norun" => table.v1.run = None,
        "nullname" => table.v1.name = null_text(7),
        "longname" => table.v1.name = odd_text(b"x", usize::MAX),
        "noname" => table.v1.name = null_text(0),
        "nocommands" => table.v1.commands = unsafe { RSlice::from_raw_parts(null(), 0) },
        "nullcommands" => table.v1.commands = unsafe { RSlice::from_raw_parts(null(), 3) },
        "manycommands" => {
            table.v1.commands = unsafe { RSlice::from_raw_parts(commands.as_ptr(), usize::MAX / 2) };
        }
        "crookedcommands" => {
            let crooked = commands.as_ptr().wrapping_byte_add(4);
            table.v1.commands = unsafe { RSlice::from_raw_parts(crooked, 1) };
        }
        "layout" => {
            // Another block's description under this name.
            let layout = host_blocks().into_iter().next().unwrap().layout;
            let blocks = vec![BlockLayout { name: text("expressions.v1"), layout }];
            table.v1.abi_header = abi_header();
            table.v1.layouts = blocks.leak().as_ptr().cast();
            table.v1.layout_count = 1;
        }
        _ => {}
    }
    Box::leak(Box::new(table))
}

fn command(name: &'static str, summary: RStr<'static>) -> CommandInfo {
    CommandInfo {
        name: text(name),
        aliases: unsafe { RSlice::from_raw_parts(null(), 0) },
        summary,
        usage: null_text(0),
        help: null_text(0),
        needs: 0,
        reserved: 0,
    }
}

unsafe extern "C" fn notify(_: *const Host, event: u32, _: u64) -> i32 {
    NOTES.store(NOTES.load(Ordering::Relaxed) << 8 | u64::from(event), Ordering::Relaxed);
    status::OK
}

unsafe extern "C" fn run(host: *const Host, index: u32, _: RStr<'_>) -> i32 {
    let host = unsafe { &*host };
    let service = |id, size| unsafe { (host.v1.query)(host.ctx, id, size) };
    let output =
        unsafe { &*service(service::OUTPUT, size_of::<OutputService>() as u32).cast::<OutputService>() };
    let say = |line: &str| unsafe { (output.v1.text)(host.ctx, 0, RStr::from_str(line)) };
    if index == 1 {
        say(&format!("notes {:x}\n", NOTES.load(Ordering::Relaxed)));
        return status::OK;
    }
    if index == 2 {
        // Fails and does not say why.
        return status::UNSUPPORTED;
    }
    assert!(service(99, 0).is_null() && service(service::OUTPUT, u32::MAX).is_null());
    let (target, memory, symbols, expressions) = unsafe {
        (
            &*service(service::TARGET, 0).cast::<TargetService>(),
            &*service(service::MEMORY, 0).cast::<MemoryService>(),
            &*service(service::SYMBOLS, 0).cast::<SymbolService>(),
            &*service(service::EXPRESSIONS, 0).cast::<ExpressionService>(),
        )
    };
    let mut answers = Vec::new();
    unsafe {
        let out = &output.v1;
        (out.text)(host.ctx, 77, odd_text(b"bytes \xff\xfe\n", 9));
        (out.text)(host.ctx, 0, null_text(5));
        (out.text)(host.ctx, 0, odd_text(b"x", usize::MAX));
        (out.field)(host.ctx, text("k"), null(), 0, text("no value"));
        let value = FieldValue { tag: value::UINT, reserved: 0, number: 5, text: null_text(9) };
        (out.field)(host.ctx, null_text(0), &value, 9, text("five\n"));
        let value = FieldValue { tag: 4711, ..value };
        (out.field)(host.ctx, text("unknown"), &value, 9, null_text(0));
        (out.begin)(host.ctx, 12, null_text(3));
        answers.push((expressions.v1.evaluate)(host.ctx, text("1+1"), null_mut()));
        let mut number = 0;
        answers.push((expressions.v1.evaluate)(host.ctx, odd_text(b"\xff", 1), &mut number));
        answers.push((expressions.v1.evaluate)(host.ctx, null_text(1), &mut number));
        answers.push((memory.v1.read_virtual)(host.ctx, 0, 0, null_mut(), 8, null_mut()));
        answers.push((memory.v1.read_virtual)(host.ctx, 0, 0, null_mut(), u64::MAX, null_mut()));
        answers.push((memory.v1.read_virtual)(null_mut(), 0, 0, null_mut(), 8, null_mut()));
        answers.push((symbols.v1.by_name)(host.ctx, null_text(4), &mut number));
        // A struct of an older, shorter kind, and one whose size was forgotten.
        let mut room = [0xaa_aa_aa_aa_u32; 8];
        room[0] = 16;
        answers.push((target.v1.info)(host.ctx, room.as_mut_ptr().cast()));
        say(&format!("guard word {:x}\n", room[4]));
        room[0] = 0;
        answers.push((target.v1.info)(host.ctx, room.as_mut_ptr().cast()));
        // From another thread.
        let (ctx, evaluate) = (host.ctx.addr(), expressions.v1.evaluate);
        let answer = std::thread::spawn(move || {
            let mut number = 0;
            evaluate(ctx as Ctx, RStr::from_str("1"), &mut number)
        });
        answers.push(answer.join().unwrap_or(0));
    }
    say(&format!("answers {answers:?}\n"));
    status::OK
}
