//! The memory service.

#![allow(unsafe_code)]

use super::*;

table!(
    MEMORY,
    MemoryService,
    MemoryV1 { read_virtual, read_physical, translate, next_readable, physical_runs, space_of_process }
);

/// The address space with this directory table base; 0: the current one, `.process` included.
pub(super) fn space_of(bridge: &Bridge, root: u64) -> Result<View, Failure> {
    let target = &bridge.open()?.target;
    let view = bridge.scope.view().unwrap_or_else(|| target.view());
    let Some(tables) = view.tables().filter(|_| root != 0) else { return Ok(view.clone()) };
    let mut kept = bridge.space.borrow_mut();
    match &*kept {
        Some((known, space)) if *known == root => Ok(space.clone()),
        _ => {
            let space = view.with_tables(&tables.with_root(Pa(root)));
            *kept = Some((root, space.clone()));
            Ok(space)
        }
    }
}

/// Reports an absence; the status of the call.
pub(super) unsafe fn faulted(
    bridge: &Bridge,
    place: *mut abi::ReadFault,
    done: u64,
    at: u64,
    why: Absent,
) -> Outcome {
    bridge.last_fault.set(Some((at, why)));
    let fault = abi::ReadFault { done, at, why: why.to_abi(), reserved: 0 };
    // SAFETY: the caller's place.
    let _ = unsafe { put(place, fault) };
    Err(Failure(status::UNREADABLE, String::new()))
}

unsafe extern "C" fn read_virtual(
    ctx: Ctx,
    space: u64,
    va: u64,
    buffer: *mut u8,
    len: u64,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: pointers as the ABI demands them of an extension.
    unsafe {
        guard(ctx, |bridge| {
            let buffer = buffer_of(buffer, len)?;
            let outcome = match space {
                0 => bridge.scope.read(Va(va), buffer),
                root => space_of(bridge, root)?.read(Va(va), buffer),
            };
            match outcome.fault {
                None => Ok(()),
                Some(ReadFault { at, why, .. }) => faulted(bridge, fault, outcome.done as u64, at.0, why),
            }
        })
    }
}

unsafe extern "C" fn read_physical(
    ctx: Ctx,
    pa: u64,
    buffer: *mut u8,
    len: u64,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let buffer = buffer_of(buffer, len)?;
            match bridge.open()?.target.read_physical(Pa(pa), buffer) {
                Ok(()) => Ok(()),
                Err((done, why)) => faulted(bridge, fault, done as u64, pa.wrapping_add(done as u64), why),
            }
        })
    }
}

unsafe extern "C" fn translate(
    ctx: Ctx,
    space: u64,
    va: u64,
    pa: *mut u64,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let view = space_of(bridge, space)?;
            match view.walk(Va(va)) {
                None => Err(Failure(status::UNSUPPORTED, "a small dump has no page tables".to_owned())),
                Some(Ok(found)) => put(pa, found.pa.0),
                Some(Err(walk)) => faulted(bridge, fault, 0, va, walk.fault.why),
            }
        })
    }
}

unsafe extern "C" fn next_readable(ctx: Ctx, space: u64, va: u64, found: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let view = space_of(bridge, space)?;
            match view.next_readable(Va(va)) {
                Some(va) => put(found, va.0),
                None => Err(not_found("nothing readable from there on")),
            }
        })
    }
}

unsafe extern "C" fn physical_runs(ctx: Ctx, sink: abi::RunSink) -> i32 {
    // SAFETY: as above; the sink is the extension's.
    unsafe {
        guard(ctx, |bridge| {
            let physical = bridge.open()?.target.dump().physical().ok_or_else(|| {
                Failure(status::UNSUPPORTED, "a small dump has no physical memory".to_owned())
            })?;
            for run in physical.runs() {
                if bridge.interrupted() {
                    return Err(Failure(status::INTERRUPTED, String::new()));
                }
                if (sink.visit)(sink.ctx, run.first.0, run.pages) != 0 {
                    break;
                }
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn space_of_process(ctx: Ctx, process: u64, space: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let root = bridge.scope.root_of_process(Va(process))?.0;
            bridge.process.set(Some((root, Va(process))));
            put(space, root)
        })
    }
}
