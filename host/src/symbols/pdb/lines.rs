//! What only private symbol files tell: source lines, local variables, and names that are typedefs.
//!
//! Each question walks the one object file that holds the address; nothing of it is kept.

use super::super::error::SymbolError;
use super::super::{Local, LocalPlace, SourceLine, TypeId};
use super::inlines::Sites;
use super::{PdbFile, guarded};
use ::pdb::{
    AddressMap, DebugInformation, FallibleIterator, ModuleInfo, PDB, PdbInternalSectionOffset, Rva, Source,
    SymbolData,
};
use std::collections::HashMap;
use std::sync::PoisonError;

/// Typedefs that are kept.
const TYPEDEFS: usize = 1 << 20;
/// Local variables of one function.
const LOCALS: usize = 4096;

impl PdbFile {
    /// The source line of the code at an RVA.
    pub(in super::super) fn line(&self, rva: u32) -> Result<Option<SourceLine>, SymbolError> {
        guarded(self.path(), || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = reader.address_map()?;
            let debug = reader.debug_information()?;
            let Some(module) = module_at(&mut reader, &debug, &addresses, rva)? else { return Ok(None) };
            let Some(at) = Rva(rva).to_internal_offset(&addresses) else { return Ok(None) };
            let program = module.line_program()?;
            let mut lines = program.lines_for_symbol(at);
            // The last line that begins at or before the address, and does not end before it.
            let mut best: Option<(u32, ::pdb::LineInfo)> = None;
            while let Ok(Some(line)) = lines.next() {
                let Some(start) = line.offset.to_rva(&addresses).map(|rva| rva.0) else { continue };
                let ends = line.length.and_then(|length| start.checked_add(length));
                if start <= rva
                    && ends.is_none_or(|end| rva < end)
                    && best.as_ref().is_none_or(|(known, _)| *known <= start)
                {
                    best = Some((start, line));
                }
            }
            let Some((start, line)) = best else { return Ok(None) };
            // 0xfeefee and 0xf00f00 mark code that belongs to no line.
            if matches!(line.line_start, 0xfeefee | 0xf00f00) {
                return Ok(None);
            }
            let file = program.get_file_info(line.file_index)?;
            let strings = reader.string_table()?;
            let file = strings.get(file.name)?.to_string().into_owned();
            Ok(Some(SourceLine {
                file,
                line: line.line_start,
                displacement: u64::from(rva.wrapping_sub(start)),
            }))
        })
    }

    /// The RVA of the first code of a line of a file, or of the next line that has some.
    pub(in super::super) fn code_of(&self, file: &str, line: u32) -> Result<Option<u32>, SymbolError> {
        guarded(self.path(), || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = reader.address_map()?;
            let debug = reader.debug_information()?;
            let Ok(strings) = reader.string_table() else { return Ok(None) };
            let is_it = |name: ::pdb::StringRef| {
                strings.get(name).is_ok_and(|name| ends_with_path(&name.to_string(), file))
            };
            let mut best: Option<(u32, u32)> = None;
            let mut modules = debug.modules()?;
            while let Ok(Some(module)) = modules.next() {
                let Ok(Some(module)) = reader.module_info(&module) else { continue };
                let Ok(program) = module.line_program() else { continue };
                if !program.files().any(|file| Ok(is_it(file.name))).unwrap_or(false) {
                    continue;
                }
                let mut known = HashMap::new();
                // Function by function: the library walks the lines of several sections in order of addresses only.
                let mut symbols = module.symbols()?;
                while let Ok(Some(symbol)) = symbols.next() {
                    let Ok(SymbolData::Procedure(function)) = symbol.parse() else { continue };
                    let mut lines = program.lines_for_symbol(function.offset);
                    while let Ok(Some(found)) = lines.next() {
                        let start = found.line_start;
                        if start < line || matches!(start, 0xfeefee | 0xf00f00) {
                            continue;
                        }
                        let in_file = *known.entry(found.file_index).or_insert_with(|| {
                            program.get_file_info(found.file_index).is_ok_and(|file| is_it(file.name))
                        });
                        let Some(rva) = found.offset.to_rva(&addresses).filter(|_| in_file) else { continue };
                        best = Some(best.map_or((start, rva.0), |best| best.min((start, rva.0))));
                    }
                }
            }
            Ok(best.map(|(_, rva)| rva))
        })
    }

    /// The variables that are in scope at an RVA, parameters too: those of the function, or of the call in line that is
    /// `level` calls inside it (of the innermost where there are fewer).
    pub(in super::super) fn locals(&self, rva: u32, level: usize) -> Result<Vec<Local>, SymbolError> {
        guarded(self.path(), || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = reader.address_map()?;
            let debug = reader.debug_information()?;
            let machine = debug.machine_type().unwrap_or(::pdb::MachineType::Unknown);
            let Some(module) = module_at(&mut reader, &debug, &addresses, rva)? else {
                return Ok(Vec::new());
            };
            let holds = |offset: PdbInternalSectionOffset, length: u32| {
                let start = offset.to_rva(&addresses).map(|rva| rva.0);
                start.is_some_and(|start| rva.wrapping_sub(start) < length)
            };
            let sites = Sites::new(&module, &addresses)?;
            let mut walk = Walk { machine, frame: (0, 0), locals: Vec::new(), open: false };
            let mut symbols = module.symbols()?;
            // Scopes opened since the function's own, and how many of them from the first that is not ours.
            let (mut function, mut depth, mut outside) = (None, 0u32, 0u32);
            // Calls in line that were entered, and the depth of the last of them: its end is the end.
            let (mut entered, mut floor) = (0, 0);
            while let Ok(Some(symbol)) = symbols.next() {
                let Ok(data) = symbol.parse() else { continue };
                match &data {
                    SymbolData::Procedure(procedure) if function.is_none() => {
                        function = holds(procedure.offset, procedure.len).then_some(procedure.offset);
                        continue;
                    }
                    _ if function.is_none() => continue,
                    SymbolData::Block(block) => {
                        depth += 1;
                        if outside > 0 || !holds(block.offset, block.len) {
                            outside += 1;
                        }
                    }
                    SymbolData::InlineSite(site) => {
                        depth += 1;
                        let covered = function.and_then(|function| sites.covers(function, site, rva));
                        if outside > 0 || entered == level || covered.is_none() {
                            outside += 1;
                        } else {
                            (entered, floor) = (entered + 1, depth);
                            walk.locals.clear();
                        }
                    }
                    SymbolData::ScopeEnd | SymbolData::InlineSiteEnd | SymbolData::ProcedureEnd => {
                        if depth == floor {
                            break;
                        }
                        depth -= 1;
                        outside = outside.saturating_sub(1);
                    }
                    data if outside == 0 => walk.take(data, &holds),
                    _ => {}
                }
                if walk.locals.len() >= LOCALS {
                    break;
                }
            }
            Ok(walk.locals)
        })
    }

    /// Every typedef, sorted by name.
    pub(in super::super) fn typedefs(&self) -> Result<Vec<(String, TypeId)>, SymbolError> {
        guarded(self.path(), || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let globals = reader.global_symbols()?;
            let mut symbols = globals.iter();
            let mut found = Vec::new();
            while let Ok(Some(symbol)) = symbols.next() {
                // S_UDT and its older form.
                if matches!(symbol.raw_kind(), 0x1108 | 0x1003)
                    && let Ok(SymbolData::UserDefinedType(udt)) = symbol.parse()
                    && found.len() < TYPEDEFS
                {
                    found.push((udt.name.to_string().into_owned(), TypeId(udt.type_index.0)));
                }
            }
            found.sort();
            found.dedup();
            Ok(found)
        })
    }
}

/// True where `path` is `end`, or ends with it after a slash of either kind; case does not matter.
fn ends_with_path(path: &str, end: &str) -> bool {
    let slash = |c: char| matches!(c, '/' | '\\');
    let mut parts = path.rsplit(slash);
    let mut wanted = end.rsplit(slash).peekable();
    while let Some(part) = wanted.next() {
        // An end that begins with a slash is the whole path.
        if part.is_empty() && wanted.peek().is_none() {
            return parts.next() == Some("");
        }
        if !parts.next().is_some_and(|known| known.eq_ignore_ascii_case(part)) {
            return false;
        }
    }
    true
}

/// The object file whose code or data holds an RVA.
pub(super) fn module_at<'s>(
    reader: &mut PDB<'s, impl Source<'s> + 's>,
    debug: &DebugInformation<'s>,
    addresses: &AddressMap<'_>,
    rva: u32,
) -> ::pdb::Result<Option<ModuleInfo<'s>>> {
    let Some(at) = Rva(rva).to_internal_offset(addresses) else { return Ok(None) };
    let mut parts = debug.section_contributions()?;
    while let Some(part) = parts.next()? {
        if part.offset.section == at.section && at.offset.wrapping_sub(part.offset.offset) < part.size {
            let Some(module) = debug.modules()?.nth(part.module)? else { return Ok(None) };
            return reader.module_info(&module);
        }
    }
    Ok(None)
}

/// The variables met so far.
struct Walk {
    machine: ::pdb::MachineType,
    /// The registers that locals and parameters are counted from, as S_FRAMEPROC numbers them.
    frame: (u8, u8),
    locals: Vec<Local>,
    /// True while ranges belong to the last variable.
    open: bool,
}

impl Walk {
    fn take(&mut self, data: &SymbolData<'_>, holds: &dyn Fn(PdbInternalSectionOffset, u32) -> bool) {
        let covers = |range: &::pdb::AddressRange| holds(range.offset, range.cb_range.into());
        let relative = |register: u16, offset: i32| LocalPlace::Relative { register, offset: offset.into() };
        match data {
            SymbolData::FrameProcedure(frame) => {
                self.frame = (frame.flags.encoded_local_base_pointer, frame.flags.encoded_param_base_pointer);
            }
            SymbolData::RegisterRelative(local) => {
                let place = relative(local.register.0, local.offset);
                self.push(&local.name, local.type_index.0, None, place);
            }
            SymbolData::BasePointerRelative(local) => {
                // Above the frame pointer stand the return address and what the caller passed.
                let place = relative(self.frame_register(false), local.offset);
                self.push(&local.name, local.type_index.0, Some(local.offset > 0), place);
            }
            SymbolData::RegisterVariable(local) => {
                self.push(&local.name, local.type_index.0, None, LocalPlace::Register(local.register.0));
            }
            SymbolData::Local(local) => {
                self.push(&local.name, local.type_index.0, Some(local.flags.isparam), LocalPlace::Nowhere);
                self.open = true;
            }
            SymbolData::DefRangeRegister(range) if covers(&range.range) => {
                self.place(LocalPlace::Register(range.register.0));
            }
            SymbolData::DefRangeFramePointerRelative(range) if covers(&range.range) => {
                let register = self.frame_register(self.last_is_parameter());
                self.place(relative(register, range.offset));
            }
            SymbolData::DefRangeFramePointerRelativeFullScope(range) => {
                let register = self.frame_register(self.last_is_parameter());
                self.place(relative(register, range.offset));
            }
            SymbolData::DefRangeRegisterRelative(range)
                if range.spilled_udt_member == 0 && covers(&range.range) =>
            {
                self.place(relative(range.base_register.0, range.offset_base_pointer));
            }
            _ => {}
        }
    }

    fn push(&mut self, name: &::pdb::RawString<'_>, of: u32, parameter: Option<bool>, place: LocalPlace) {
        self.open = false;
        let name = name.to_string().into_owned();
        self.locals.push(Local { name, type_id: TypeId(of), parameter: parameter.unwrap_or(false), place });
    }

    fn last_is_parameter(&self) -> bool {
        self.locals.last().is_some_and(|local| local.parameter)
    }

    fn place(&mut self, place: LocalPlace) {
        if let Some(local) =
            self.locals.last_mut().filter(|local| self.open && local.place == LocalPlace::Nowhere)
        {
            local.place = place;
        }
    }

    /// CodeView's number of the register that frame offsets are counted from.
    fn frame_register(&self, parameter: bool) -> u16 {
        use ::pdb::MachineType::{Amd64, Arm64};
        let coded = if parameter { self.frame.1 } else { self.frame.0 };
        match (self.machine, coded) {
            (Amd64, 2) => 334,
            (Amd64, 3) => 341,
            (Amd64, _) => 335,
            (Arm64, 2) => 79,
            (Arm64, _) => 81,
            (_, 1) => LocalPlace::VIRTUAL_FRAME,
            (_, 3) => 20,
            _ => 22,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ends_with_path;

    #[test]
    fn a_file_is_named_by_the_end_of_its_path() {
        assert!(ends_with_path("d:\\os\\io\\Main.c", "main.c"));
        assert!(ends_with_path("d:\\os\\io\\main.c", "io/main.c"));
        assert!(ends_with_path("/os/main.c", "/os/main.c"));
        assert!(!ends_with_path("d:\\os\\domain.c", "main.c"));
        assert!(!ends_with_path("main.c", "io/main.c"));
        assert!(!ends_with_path("/os/main.c", "/main.c"));
    }
}
