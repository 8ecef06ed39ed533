//! stub
use super::{Hit, Module, Pattern};
use std::ops::ControlFlow;
pub(super) struct Index {}
pub(super) struct Entry<'a> { pub rva: u32, pub name: &'a str }
impl Entry<'_> {
    pub(super) fn hit(&self, module: usize, of: &Module<'_>, rva: u64) -> Hit {
        Hit { module, module_name: of.name.to_owned(), name: self.name.to_owned(), address: of.base.add(self.rva.into()), displacement: rva.wrapping_sub(self.rva.into()) }
    }
}
impl Index {
    pub(super) fn at_or_before(&self, _rva: u32) -> Option<Entry<'_>> { None }
    pub(super) fn after(&self, _rva: u32) -> Option<Entry<'_>> { None }
    pub(super) fn exactly(&self, _rva: u32) -> impl Iterator<Item = Entry<'_>> { std::iter::empty() }
    pub(super) fn find(&self, _name: &str) -> Option<u32> { None }
    pub(super) fn each(&self, _pattern: &Pattern, _visit: &mut dyn FnMut(&str, u32) -> ControlFlow<()>) -> ControlFlow<()> { ControlFlow::Continue(()) }
}
