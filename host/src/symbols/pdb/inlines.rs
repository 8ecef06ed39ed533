//! Calls that the compiler put in line: which of them hold an address, their names and lines.
//!
//! A function's symbols hold a tree of `S_INLINESITE` records, each with a small program (binary annotations) that
//! gives its code ranges and lines; the names are in the item stream. What was found for an address is kept: stacks of
//! thousands of threads go through the same calls.

use super::super::error::SymbolError;
use super::super::{SourceLine, TypeId};
use super::lines::module_at;
use super::{PdbFile, guarded};
use ::pdb::{
    AddressMap, FallibleIterator, IdData, IdIndex, InlineSiteSymbol, Inlinee, LineInfo, ModuleInfo,
    PdbInternalSectionOffset, SymbolData,
};
use std::collections::HashMap;
use std::sync::PoisonError;

/// Calls inside calls that are followed.
const DEPTH: usize = 64;
/// Addresses whose calls are kept.
const MOST_KEPT: usize = 1 << 14;
/// Line entries of one call.
const LINES: usize = 1 << 16;

/// A call in line that holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct InlineSite {
    /// The function's name, with its namespace.
    pub name: String,
    /// The class it is a member of.
    pub class: Option<TypeId>,
    /// Bytes from the first instruction of the call.
    pub displacement: u64,
    /// The line inside the function.
    pub line: Option<SourceLine>,
}

/// The calls in line of one object file.
pub(super) struct Sites<'a, 'm> {
    inlinees: HashMap<u32, Inlinee<'a>>,
    addresses: &'a AddressMap<'m>,
}

/// What an inlined call says of an address it holds.
pub(super) struct Covered {
    /// RVA of its first instruction.
    start: u32,
    line: LineInfo,
    line_start: u32,
}

impl<'a, 'm> Sites<'a, 'm> {
    pub(super) fn new(
        module: &'a ModuleInfo<'_>,
        addresses: &'a AddressMap<'m>,
    ) -> ::pdb::Result<Sites<'a, 'm>> {
        let mut found = module.inlinees()?;
        let mut inlinees = HashMap::new();
        while let Ok(Some(inlinee)) = found.next() {
            inlinees.insert(inlinee.index().0, inlinee);
        }
        Ok(Sites { inlinees, addresses })
    }

    /// What a call in the function at `function` says of an RVA; `None` where it does not hold it.
    pub(super) fn covers(
        &self,
        function: PdbInternalSectionOffset,
        site: &InlineSiteSymbol<'a>,
        rva: u32,
    ) -> Option<Covered> {
        let inlinee = self.inlinees.get(&site.inlinee.0)?;
        let mut lines = inlinee.lines(function, site);
        let (mut start, mut at) = (u32::MAX, None);
        for _ in 0..LINES {
            let Ok(Some(line)) = lines.next() else { break };
            let Some(first) = line.offset.to_rva(self.addresses).map(|rva| rva.0) else { continue };
            start = start.min(first);
            if rva.checked_sub(first).is_some_and(|offset| offset < line.length.unwrap_or(1)) {
                at = Some((line, first));
            }
        }
        at.map(|(line, line_start)| Covered { start, line, line_start })
    }
}

impl PdbFile {
    /// The calls in line that hold an RVA, the innermost first.
    pub(in super::super) fn inlined(&self, rva: u32) -> Result<Vec<InlineSite>, SymbolError> {
        let known = || self.inlines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&rva) {
            return Ok(found.clone());
        }
        let found = self.find_inlined(rva)?;
        let mut known = known();
        if known.len() >= MOST_KEPT {
            known.clear();
        }
        known.insert(rva, found.clone());
        Ok(found)
    }

    fn find_inlined(&self, rva: u32) -> Result<Vec<InlineSite>, SymbolError> {
        guarded(self.path(), || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = reader.address_map()?;
            let debug = reader.debug_information()?;
            let Some(module) = module_at(&mut reader, &debug, &addresses, rva)? else {
                return Ok(Vec::new());
            };
            let sites = Sites::new(&module, &addresses)?;
            if sites.inlinees.is_empty() {
                return Ok(Vec::new());
            }
            let mut found: Vec<(IdIndex, Covered)> = Vec::new();
            let mut function = None;
            let mut symbols = module.symbols()?;
            while let Ok(Some(symbol)) = symbols.next() {
                match (symbol.parse(), function) {
                    (Ok(SymbolData::Procedure(procedure)), None) => {
                        let start = procedure.offset.to_rva(&addresses).map(|rva| rva.0);
                        let holds = start.is_some_and(|start| rva.wrapping_sub(start) < procedure.len);
                        function = holds.then_some(procedure.offset);
                    }
                    (Ok(SymbolData::Procedure(_) | SymbolData::ProcedureEnd), Some(_)) => break,
                    // Records come outermost first, and no two siblings hold one address.
                    (Ok(SymbolData::InlineSite(site)), Some(function)) => {
                        if let Some(covered) =
                            sites.covers(function, &site, rva).filter(|_| found.len() < DEPTH)
                        {
                            found.push((site.inlinee, covered));
                        }
                    }
                    _ => {}
                }
            }
            if found.is_empty() {
                return Ok(Vec::new());
            }
            let names = names(&mut reader, &found)?;
            let program = module.line_program()?;
            let strings = reader.string_table().ok();
            Ok(found
                .iter()
                .rev()
                .map(|(id, covered)| {
                    let (name, class) = names.get(&id.0).cloned().unwrap_or_default();
                    let file = program.get_file_info(covered.line.file_index).ok();
                    let file = file.and_then(|file| strings.as_ref()?.get(file.name).ok());
                    InlineSite {
                        name,
                        class,
                        displacement: u64::from(rva.saturating_sub(covered.start)),
                        line: file.map(|file| SourceLine {
                            file: file.to_string().into_owned(),
                            line: covered.line.line_start,
                            displacement: u64::from(rva.saturating_sub(covered.line_start)),
                        }),
                    }
                })
                .collect())
        })
    }
}

/// Names and classes of the functions, in one pass over the item stream.
fn names(
    reader: &mut ::pdb::PDB<'static, super::Pages>,
    sites: &[(IdIndex, Covered)],
) -> ::pdb::Result<HashMap<u32, (String, Option<TypeId>)>> {
    let items = reader.id_information()?;
    let mut finder = items.finder();
    let mut all = items.iter();
    let last = sites.iter().map(|(id, _)| id.0).max().unwrap_or(0);
    while let Some(item) = all.next()? {
        finder.update(&all);
        if item.index().0 >= last {
            break;
        }
    }
    let mut names = HashMap::new();
    for (id, _) in sites {
        let Ok(item) = finder.find(*id) else { continue };
        let named = match item.parse() {
            Ok(IdData::Function(function)) => {
                let space = function.scope.and_then(|scope| match finder.find(scope).ok()?.parse().ok()? {
                    IdData::String(text) => Some(text.name.to_string().into_owned()),
                    _ => None,
                });
                let name = function.name.to_string();
                (space.map_or(name.to_string(), |space| format!("{space}::{name}")), None)
            }
            Ok(IdData::MemberFunction(function)) => {
                (function.name.to_string().into_owned(), Some(TypeId(function.parent.0)))
            }
            _ => continue,
        };
        names.insert(id.0, named);
    }
    Ok(names)
}
