//! The target service: the machine that crashed.

#![allow(unsafe_code)]

use super::*;
use crate::dump::{Dump, TaggedBlob};

table!(
    TARGET,
    TargetService,
    TargetV1 {
        info,
        text,
        module,
        module_at,
        unloaded,
        register,
        exception,
        processor,
        kd_data,
        tagged,
        read_tagged
    }
);

unsafe extern "C" fn info(ctx: Ctx, place: *mut abi::TargetInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            let (target, header) = (&open.target, open.target.dump().header());
            let check = header.bug_check.as_ref();
            let processor = target.processors().get(bridge.scope.processor as usize);
            let or_zero = |va: Option<Va>| va.map_or(0, |va| va.0);
            let present = [
                (check.is_some(), 1),
                (header.system_time.is_some(), 2),
                (header.system_up_time.is_some(), 4),
                (header.product_type.is_some(), 8),
                (target.dump().physical().is_some(), 0x10),
                (target.dump().physical().is_some() || target.dump().virtual_blocks().is_some(), 0x20),
            ];
            put_sized(
                place,
                abi::TargetInfo {
                    size: size_of::<abi::TargetInfo>() as u32,
                    machine: target.machine().number(),
                    pointer_size: target.pointer_size(),
                    dump_kind: target.dump().kind().number(),
                    target: open.number,
                    processors: target.processors().len() as u32,
                    current_processor: bridge.scope.processor,
                    build: header.minor_version.unwrap_or(0),
                    major_version: header.major_version.unwrap_or(0),
                    present: present.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum(),
                    bug_check: check.map_or(0, |check| check.code),
                    product_type: header.product_type.unwrap_or(0),
                    parameters: check.map_or([0; 4], |check| check.parameters),
                    system_time: header.system_time.unwrap_or(0),
                    up_time: header.system_up_time.unwrap_or(0),
                    kernel_base: or_zero(target.kernel_base()),
                    ps_loaded_module_list: or_zero(header.ps_loaded_module_list),
                    ps_active_process_head: or_zero(header.ps_active_process_head),
                    kd_debugger_data: or_zero(header.kd_debugger_data_block),
                    pfn_database: or_zero(header.pfn_database),
                    directory_table_base: header.directory_table_base.map_or(0, |pa| pa.0),
                    current_process: or_zero(processor.and_then(|p| p.current_process)),
                    current_thread: or_zero(processor.and_then(|p| p.current_thread)),
                    prcb: or_zero(processor.and_then(|p| p.prcb)),
                },
            )
        })
    }
}

unsafe extern "C" fn text(ctx: Ctx, id: u32, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let text = match id {
                abi::text::FILE => Some(target.dump().path().display().to_string()),
                abi::text::KIND => Some(version::kind_line(target.kind()).to_owned()),
                abi::text::VERSION => Some(target.version().windows_line()),
                abi::text::BUILD_LAB => target.version().build_lab,
                abi::text::COMMENT => target.header().comment.clone(),
                abi::text::BLAMED_DRIVER => {
                    target.dump().triage().and_then(|small| small.broken_driver.clone())
                }
                abi::text::MACHINE => Some(target.machine().name().to_owned()),
                _ => None,
            };
            let text = text.ok_or_else(|| not_found("the dump does not say"))?;
            tell(sink, &text);
            Ok(())
        })
    }
}

unsafe extern "C" fn module(ctx: Ctx, index: u64, place: *mut abi::ModuleInfo<'static>) -> i32 {
    // SAFETY: as above; the texts live as long as the bridge.
    unsafe {
        guard(ctx, |bridge| {
            let modules = bridge.open()?.target.modules();
            let module = usize::try_from(index).ok().and_then(|index| modules.get(index));
            let module = module.ok_or_else(|| not_found("no module of that index"))?;
            put(
                place,
                abi::ModuleInfo {
                    base: module.base.0,
                    size: module.size,
                    time_stamp: module.time_stamp,
                    check_sum: module.check_sum,
                    flags: u32::from(module.is_kernel),
                    reserved: 0,
                    name: text_for_command(&module.name),
                    image: text_for_command(&module.image),
                    path: text_for_command(&module.path),
                    loader_entry: module.loader_entry.map_or(0, |va| va.0),
                },
            )
        })
    }
}

unsafe extern "C" fn module_at(ctx: Ctx, va: u64, index: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| match bridge.open()?.target.module_index_at(Va(va)) {
            Some(found) => put(index, found as u64),
            None => Err(not_found("no module there")),
        })
    }
}

unsafe extern "C" fn unloaded(ctx: Ctx, index: u64, place: *mut abi::UnloadedInfo<'static>) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let modules = bridge.open()?.target.unloaded();
            let module = usize::try_from(index).ok().and_then(|index| modules.get(index));
            let module = module.ok_or_else(|| not_found("no unloaded module of that index"))?;
            put(
                place,
                abi::UnloadedInfo {
                    start: module.start.0,
                    end: module.end.0,
                    unload_time: module.time.unwrap_or(0),
                    name: text_for_command(&module.name),
                },
            )
        })
    }
}

unsafe extern "C" fn register(ctx: Ctx, set: u32, name: RStr<'_>, value: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let name = said(name)?.to_ascii_lowercase();
            let found = match set {
                abi::registers::HEADER => {
                    target.header_registers().and_then(|registers| registers.get(&name))
                }
                _ if name.starts_with('$') => bridge.scope.register(&name),
                abi::registers::PROCESSOR => {
                    let found = target.registers(bridge.scope.processor);
                    found.map_err(|error| not_found(crate::chained(&error)))?.registers.get(&name)
                }
                _ => bridge.scope.registers()?.get(&name),
            };
            match found {
                Some(found) => put(value, found),
                None => Err(not_found(format!("no register '{name}' here"))),
            }
        })
    }
}

unsafe extern "C" fn exception(ctx: Ctx, place: *mut abi::ExceptionInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let exception = bridge.open()?.target.exception();
            let exception = exception.ok_or_else(|| not_found("the dump has no exception record"))?;
            let mut parameters = [0; 15];
            for (place, value) in parameters.iter_mut().zip(&exception.parameters) {
                *place = *value;
            }
            put(
                place,
                abi::ExceptionInfo {
                    code: exception.code,
                    flags: exception.flags,
                    address: exception.address.0,
                    parameter_count: exception.parameters.len().min(15) as u32,
                    reserved: 0,
                    parameters,
                },
            )
        })
    }
}

unsafe extern "C" fn processor(ctx: Ctx, number: u32, place: *mut abi::ProcessorInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let found =
                target.processors().get(number as usize).ok_or_else(|| not_found("no such processor"))?;
            let or_zero = |va: Option<Va>| va.map_or(0, |va| va.0);
            put(
                place,
                abi::ProcessorInfo {
                    number,
                    flags: u32::from(target.registers(number).is_ok()),
                    prcb: or_zero(found.prcb),
                    current_thread: or_zero(found.current_thread),
                    current_process: or_zero(found.current_process),
                },
            )
        })
    }
}

unsafe extern "C" fn kd_data(ctx: Ctx, offset: u32, size: u32, value: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let data = target.kd_data().ok_or_else(|| not_found("the dump has no KD data block"))?;
            let start = offset as usize;
            let bytes = start.checked_add(size as usize).and_then(|end| data.bytes().get(start..end));
            let mut whole = [0; 8];
            match bytes.and_then(|bytes| whole.get_mut(..bytes.len()).map(|place| (place, bytes))) {
                Some((place, bytes)) => place.copy_from_slice(bytes),
                None => return Err(not_found("the KD data block ends before this field")),
            }
            put(value, u64::from_le_bytes(whole))
        })
    }
}

/// Tagged data by index; the memory manager's block of a small dump follows as if it were tagged.
fn blob(dump: &Dump, index: u64) -> Result<TaggedBlob, Failure> {
    let counters = dump.triage().and_then(|triage| triage.mm);
    let counters =
        counters.map(|mm| TaggedBlob { guid: abi::SMALL_DUMP_COUNTERS, offset: mm.offset, size: mm.size });
    let mut all = dump.tagged_data().iter().copied().chain(counters);
    let blob = usize::try_from(index).ok().and_then(|index| all.nth(index));
    blob.ok_or_else(|| not_found("no tagged data of that index"))
}

unsafe extern "C" fn tagged(ctx: Ctx, index: u64, place: *mut abi::TaggedInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let blob = blob(bridge.open()?.target.dump(), index)?;
            put(place, abi::TaggedInfo { tag: blob.guid, size: blob.size })
        })
    }
}

unsafe extern "C" fn read_tagged(
    ctx: Ctx,
    index: u64,
    offset: u64,
    buffer: *mut u8,
    len: u64,
    done: *mut u64,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let buffer = buffer_of(buffer, len)?;
            let dump = bridge.open()?.target.dump();
            let blob = blob(dump, index)?;
            let bytes =
                dump.tagged_bytes(&blob).ok_or_else(|| not_found("the file ends before this data"))?;
            let rest =
                usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(rest) {
                *place = *byte;
            }
            put(done, count as u64)
        })
    }
}
