//! A host for tests of what reads memory: blocks of bytes, and nothing else.

use super::*;
use crate::session::Session;
use core::sync::atomic::{AtomicU32, Ordering};

/// Memory of a target with 8-byte pointers.
#[derive(Default)]
pub struct Fake {
    blocks: Vec<(u64, Vec<u8>)>,
    /// What Ctrl+C sets.
    pub interrupt: AtomicU32,
}

impl Fake {
    /// With these bytes at an address.
    pub fn bytes(mut self, at: u64, bytes: &[u8]) -> Fake {
        self.blocks.push((at, bytes.to_vec()));
        self
    }

    /// With these words at an address.
    pub fn words(self, at: u64, words: &[u64]) -> Fake {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(at, &bytes)
    }

    /// Runs `body` on a session.
    pub fn run<T>(&self, body: impl FnOnce(&Session<'_>) -> T) -> T {
        let host = Host {
            size: size_of::<Host>() as u32,
            major: MAJOR,
            minor: MINOR,
            ctx: (&raw const *self).cast_mut().cast(),
            interrupt: self.interrupt.as_ptr(),
            v1: HostV1 { query, last_error },
        };
        // SAFETY: the table outlives the calls.
        let calls = unsafe { Calls::new(&raw const host) }.expect("a host");
        body(&Session::new(calls))
    }
}

static MEMORY: MemoryService = MemoryService {
    size: size_of::<MemoryService>() as u32,
    reserved: 0,
    v1: MemoryV1 { read_virtual, read_physical, translate, next_readable, physical_runs, space_of_process },
};

unsafe extern "C" fn query(_: Ctx, id: u32, _: u32) -> *const c_void {
    if id == service::MEMORY { (&raw const MEMORY).cast() } else { core::ptr::null() }
}

unsafe extern "C" fn last_error(_: Ctx, _: TextSink) {}

unsafe extern "C" fn read_virtual(
    ctx: Ctx,
    _: u64,
    va: u64,
    buffer: *mut u8,
    len: u64,
    fault: *mut ReadFault,
) -> i32 {
    // SAFETY: `ctx` is the fake that runs; buffer and fault are the SDK's own.
    let (fake, buffer, fault) =
        unsafe { (&*ctx.cast::<Fake>(), core::slice::from_raw_parts_mut(buffer, len as usize), &mut *fault) };
    assert_eq!(fake.interrupt.load(Ordering::Relaxed), 0, "a read after Ctrl+C");
    for (done, place) in buffer.iter_mut().enumerate() {
        let at = va.wrapping_add(done as u64);
        let found =
            fake.blocks.iter().find_map(|(base, bytes)| bytes.get(at.checked_sub(*base)? as usize).copied());
        match found {
            Some(byte) => *place = byte,
            None => {
                *fault = ReadFault { done: done as u64, at, why: absent::PAGED_OUT, reserved: 0 };
                return status::UNREADABLE;
            }
        }
    }
    status::OK
}

unsafe extern "C" fn read_physical(_: Ctx, _: u64, _: *mut u8, _: u64, _: *mut ReadFault) -> i32 {
    status::UNSUPPORTED
}

unsafe extern "C" fn translate(_: Ctx, _: u64, _: u64, _: *mut u64, _: *mut ReadFault) -> i32 {
    status::UNSUPPORTED
}

unsafe extern "C" fn next_readable(_: Ctx, _: u64, _: u64, _: *mut u64) -> i32 {
    status::UNSUPPORTED
}

unsafe extern "C" fn physical_runs(_: Ctx, _: RunSink) -> i32 {
    status::UNSUPPORTED
}

unsafe extern "C" fn space_of_process(_: Ctx, _: u64, _: *mut u64) -> i32 {
    status::UNSUPPORTED
}
