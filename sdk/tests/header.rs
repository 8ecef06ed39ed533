//! `include/kdext.h` and `src/abi/mod.rs` must be the same tables. The sizes and offsets come from the compiler, the
//! types of fields and functions and the constants from the Rust source; a C compiler checks all of them against the
//! header. Without a C compiler the test says so and does nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, elided_lifetimes_in_paths)]

use kd_sdk::abi::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("../src/abi/mod.rs");

/// Structs by their C and Rust names.
const STRUCTS: &[(&str, &str)] = &[
    ("kd_text_sink", "TextSink"),
    ("kd_extension", "Extension"),
    ("kd_extension_v1", "ExtensionV1"),
    ("kd_command_info", "CommandInfo"),
    ("kd_host", "Host"),
    ("kd_host_v1", "HostV1"),
    ("kd_read_fault", "ReadFault"),
    ("kd_memory_v1", "MemoryV1"),
    ("kd_target_info", "TargetInfo"),
    ("kd_module_info", "ModuleInfo"),
    ("kd_unloaded_info", "UnloadedInfo"),
    ("kd_exception_info", "ExceptionInfo"),
    ("kd_processor_info", "ProcessorInfo"),
    ("kd_tagged_info", "TaggedInfo"),
    ("kd_target_v1", "TargetV1"),
    ("kd_symbol_info", "SymbolInfo"),
    ("kd_symbol_sink", "SymbolSink"),
    ("kd_symbol_v1", "SymbolV1"),
    ("kd_type_ref", "TypeRef"),
    ("kd_field_info", "FieldInfo"),
    ("kd_field_sink", "FieldSink"),
    ("kd_type_v1", "TypeV1"),
    ("kd_expression_v1", "ExpressionV1"),
    ("kd_field_value", "FieldValue"),
    ("kd_output_v1", "OutputV1"),
    ("kd_control_v1", "ControlV1"),
    ("kd_run_sink", "RunSink"),
    ("kd_typed_info", "TypedInfo"),
    ("kd_context_ref", "ContextRef"),
    ("kd_frame_info", "FrameInfo"),
    ("kd_frame_sink", "FrameSink"),
    ("kd_stack_v1", "StackV1"),
    ("kd_instruction_info", "InstructionInfo"),
    ("kd_instruction_sink", "InstructionSink"),
    ("kd_code_v1", "CodeV1"),
    ("kd_str", "RStr"),
];

macro_rules! layouts {
    ($($c:literal $rust:ident { $($field:ident),+ $(,)? })+) => {
        /// Assertions on sizes and offsets. A field that is missing here does not compile.
        fn layouts(c: &mut String) {
            $({
                let _exhaustive = |value: &$rust| { let $rust { $($field: _),+ } = value; };
                let size = size_of::<$rust>();
                writeln!(c, "_Static_assert(sizeof({}) == {size}, \"size of {0}\");", $c).unwrap();
                $(
                    let (name, offset) = (c_name(stringify!($field)), core::mem::offset_of!($rust, $field));
                    writeln!(c, "_Static_assert(offsetof({}, {name}) == {offset}, \"{0}.{name}\");", $c).unwrap();
                )+
            })+
        }
    };
}

layouts! {
    "kd_text_sink" TextSink { ctx, write }
    "kd_extension" Extension { magic, size, abi_major, abi_minor, min_host_minor, reserved, v1 }
    "kd_extension_v1" ExtensionV1 {
        name, version, built_by, summary, commands, run, notify, unload, abi_header, layouts, layout_count
    }
    "kd_command_info" CommandInfo { name, aliases, summary, usage, help, needs, reserved }
    "kd_host" Host { size, major, minor, ctx, interrupt, v1 }
    "kd_host_v1" HostV1 { query, last_error }
    "kd_read_fault" ReadFault { done, at, why, reserved }
    "kd_memory_service" MemoryService { size, reserved, v1 }
    "kd_memory_v1" MemoryV1 {
        read_virtual, read_physical, translate, next_readable, physical_runs, space_of_process
    }
    "kd_run_sink" RunSink { ctx, visit }
    "kd_target_info" TargetInfo {
        size, machine, pointer_size, dump_kind, target, processors, current_processor, build, major_version, present,
        bug_check, product_type, parameters, system_time, up_time, kernel_base, ps_loaded_module_list,
        ps_active_process_head, kd_debugger_data, pfn_database, directory_table_base, current_process,
        current_thread, prcb
    }
    "kd_module_info" ModuleInfo {
        base, size, time_stamp, check_sum, flags, reserved, name, image, path, loader_entry
    }
    "kd_unloaded_info" UnloadedInfo { start, end, unload_time, name }
    "kd_exception_info" ExceptionInfo { code, flags, address, parameter_count, reserved, parameters }
    "kd_processor_info" ProcessorInfo { number, flags, prcb, current_thread, current_process }
    "kd_tagged_info" TaggedInfo { tag, size }
    "kd_target_service" TargetService { size, reserved, v1 }
    "kd_target_v1" TargetV1 {
        info, text, module, module_at, unloaded, register, exception, processor, kd_data, tagged, read_tagged
    }
    "kd_symbol_info" SymbolInfo { module, name, displacement, address }
    "kd_symbol_sink" SymbolSink { ctx, visit }
    "kd_symbol_service" SymbolService { size, reserved, v1 }
    "kd_symbol_v1" SymbolV1 { at, by_name, each }
    "kd_type_ref" TypeRef { id, size }
    "kd_field_info" FieldInfo { offset, size, kind, bit_position, bit_length, count, element }
    "kd_field_sink" FieldSink { ctx, visit }
    "kd_type_service" TypeService { size, reserved, v1 }
    "kd_type_v1" TypeV1 { lookup, field, fields, name, enum_name }
    "kd_expression_service" ExpressionService { size, reserved, v1 }
    "kd_expression_v1" ExpressionV1 { evaluate, typed }
    "kd_typed_info" TypedInfo { value, address, of, size, kind, reserved }
    "kd_field_value" FieldValue { tag, reserved, number, text }
    "kd_output_service" OutputService { size, reserved, v1 }
    "kd_output_v1" OutputV1 { begin, end, text, field, link, message }
    "kd_control_service" ControlService { size, reserved, v1 }
    "kd_control_v1" ControlV1 { progress, execute }
    "kd_context_ref" ContextRef { kind, reserved, at, space, ip, sp, fp }
    "kd_frame_info" FrameInfo {
        ip, sp, fp, return_address, trap_frame, arguments, arguments_read, source, flags, reserved, site, missing
    }
    "kd_frame_sink" FrameSink { ctx, visit }
    "kd_stack_service" StackService { size, reserved, v1 }
    "kd_stack_v1" StackV1 { walk, show, register }
    "kd_instruction_info" InstructionInfo { address, length, flow, to, flags, reserved, text, line }
    "kd_instruction_sink" InstructionSink { ctx, visit }
    "kd_code_service" CodeService { size, reserved, v1 }
    "kd_code_v1" CodeV1 { forward, backward }
}

/// A field as the header spells it.
fn c_name(field: &str) -> &str {
    if field == "register" { "register_" } else { field }
}

/// A type as the header spells it.
fn c_type(rust: &str) -> String {
    let rust = rust.trim();
    if let Some(inner) = rust.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        return c_type(inner);
    }
    if let Some(function) = rust.strip_prefix("unsafe extern \"C\" fn(") {
        let (parameters, result) = function.rsplit_once(')').unwrap();
        let result = result.trim().strip_prefix("->").map_or("void".to_owned(), c_type);
        let parameters: Vec<String> = split(parameters)
            .iter()
            .map(|parameter| c_type(parameter.split_once(':').map_or(*parameter, |(_, kind)| kind)))
            .collect();
        let parameters = if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
        return format!("{result} (*)({parameters})");
    }
    for (prefix, c) in [("*const ", "const "), ("&", "const "), ("*mut ", "")] {
        if let Some(pointee) = rust.strip_prefix(prefix) {
            return format!("{c}{} *", c_type(pointee));
        }
    }
    let bare = rust.split('<').next().unwrap();
    if let Some((c, _)) = STRUCTS.iter().find(|(_, name)| *name == bare) {
        return (*c).to_owned();
    }
    match (bare, rust) {
        ("u8", _) => "uint8_t".to_owned(),
        ("u16", _) => "uint16_t".to_owned(),
        ("u32", _) => "uint32_t".to_owned(),
        ("u64", _) => "uint64_t".to_owned(),
        ("i32", _) => "int32_t".to_owned(),
        ("i64", _) => "int64_t".to_owned(),
        ("c_void", _) => "void".to_owned(),
        ("RSlice", "RSlice<'static, CommandInfo>") => "kd_command_slice".to_owned(),
        ("RSlice", "RSlice<'static, RStr<'static>>") => "kd_str_slice".to_owned(),
        _ => panic!("no C type for {rust}"),
    }
}

/// At the commas that are not inside anything.
fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '(' | '<' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '>' if !list[..at].ends_with('-') => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The source without comments and attributes.
fn bare_source() -> String {
    let lines = SOURCE.lines().map(str::trim);
    lines.filter(|line| !line.starts_with("//") && !line.starts_with('#')).collect::<Vec<_>>().join(" ")
}

/// Assertions on the type of every field of every struct.
fn types(c: &mut String) -> usize {
    let source = bare_source();
    let mut count = 0;
    for (c_struct, rust) in STRUCTS.iter().filter(|(_, rust)| *rust != "RStr") {
        let head = [format!("pub struct {rust} {{"), format!("pub struct {rust}<'a> {{")];
        let body = head
            .iter()
            .find_map(|head| source.split_once(head.as_str()))
            .unwrap_or_else(|| panic!("{rust}"))
            .1;
        let body = body.split_once('}').unwrap().0;
        for field in split(body) {
            let (name, kind) = field.strip_prefix("pub ").unwrap().split_once(':').unwrap();
            count += 1;
            if kind.trim().starts_with('[') {
                continue; // the size of the struct and the next offset say the same
            }
            let (name, kind) = (c_name(name), c_type(kind));
            writeln!(
                c,
                "_Static_assert(_Generic((({c_struct} *)0)->{name}, {kind}: 1, default: 0), \"{c_struct}.{name}\");"
            )
            .unwrap();
        }
    }
    count
}

/// Assertions on every constant, and what their number is.
fn constants(c: &mut String) -> usize {
    let mut count = 0;
    let mut module = String::new();
    for line in SOURCE.lines() {
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(" {")) {
            module = format!("{}_", name.to_uppercase());
        } else if line == "}" {
            module.clear();
        } else if let Some(rest) = line.trim().strip_prefix("pub const ")
            && let Some((name, rest)) = rest.split_once(": ")
            && let Some(value) = rest.split_once("= ").and_then(|(_, value)| value.strip_suffix(';'))
            && value.parse::<i64>().is_ok()
        {
            let prefix = if module.is_empty() { "ABI_" } else { &module };
            writeln!(c, "_Static_assert(KD_{prefix}{name} == {value}, \"{prefix}{name}\");").unwrap();
            count += 1;
        }
    }
    writeln!(c, "_Static_assert(KD_MAGIC == UINT64_C({MAGIC}), \"magic\");").unwrap();
    count
}

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// Runs a compiler on a file; false, with a loud line, where there is none.
fn compile(compiler: &str, arguments: &[&str], file: &Path) -> bool {
    let output = Command::new(compiler).args(arguments).arg("-I").arg(include()).arg(file).output();
    let Ok(output) = output else {
        eprintln!(
            "skipped: no compiler '{compiler}' on this machine: kdext.h is NOT compared with the Rust tables"
        );
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

fn scratch(name: &str, text: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_header_and_the_rust_tables_are_the_same() {
    let mut c = String::from("#include \"kdext.h\"\n");
    layouts(&mut c);
    let fields = types(&mut c);
    assert!(fields > 130, "the source was not understood: {fields} fields");
    let numbers = constants(&mut c);
    assert!(numbers > 60, "the source was not understood: {numbers} constants");
    // Every struct of the source is compared.
    for rust in bare_source().split("pub struct ").skip(1).map(|rest| rest.split([' ', '<']).next().unwrap())
    {
        assert!(
            rust == "$table" || STRUCTS.iter().any(|(_, known)| *known == rust),
            "{rust} is not compared"
        );
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    compile(
        &compiler,
        &["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"],
        &scratch("header.c", &c),
    );
}

#[test]
fn a_difference_would_be_found() {
    let wrong = "#include \"kdext.h\"\n_Static_assert(sizeof(kd_host) == 1, \"\");\n";
    let file = scratch("wrong.c", wrong);
    let Ok(output) = Command::new("cc").args(["-fsyntax-only", "-I"]).arg(include()).arg(file).output()
    else {
        eprintln!("skipped: no C compiler on this machine");
        return;
    };
    assert!(!output.status.success());
}

#[test]
fn the_header_is_cxx_too() {
    let cxx = "#include \"kdext.h\"\nstatic_assert(sizeof(kd_str) == 2 * sizeof(void *), \"\");\nkd_str s = KD_STR(\"nt\");\n";
    let flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"];
    compile("c++", &flags, &scratch("header.cpp", cxx));
}
