//! What symbols need of a target.

use kd_sdk::address::Va;

/// What symbols need of a target. Nothing here may ask the same [`Symbols`](super::Symbols) back: a module's symbols are looked for
/// while these are called.
pub trait ModuleSource {
    /// Number of loaded modules; indexes run from 0.
    fn modules(&self) -> usize;
    /// A loaded module; `None` past the end.
    fn module(&self, index: usize) -> Option<Module<'_>>;
    /// The module that holds an address.
    fn module_at(&self, va: Va) -> Option<usize> {
        (0..self.modules()).find(|index| self.module(*index).is_some_and(|module| module.holds(va)))
    }
    /// Fills `into` with memory of the target; false (and any content) where a byte of it cannot be had.
    fn read(&self, va: Va, into: &mut [u8]) -> bool;
    /// What the dump header says about the kernel.
    fn kernel_hints(&self) -> KernelHints {
        KernelHints::default()
    }
}

/// A loaded module as symbols see it.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// First address.
    pub base: Va,
    /// Bytes (SizeOfImage).
    pub size: u64,
    /// The debugger's name for it: `nt`, `amdppm`.
    pub name: &'a str,
    /// The image's name, with or without a path: `ntoskrnl.exe`, `\SystemRoot\System32\drivers\amdppm.sys`.
    pub image: &'a str,
    /// TimeDateStamp of the image; 0 if unknown.
    pub time_stamp: u32,
    /// True for the kernel itself (`nt`), false for every other module.
    pub is_kernel: bool,
}

impl Module<'_> {
    /// True where the address lies in this module.
    pub fn holds(&self, va: Va) -> bool {
        va.0.wrapping_sub(self.base.0) < self.size
    }
}

/// Addresses of the kernel's variables from the dump header. `Va::NULL` where the header does not say
/// (the filler `PAGE` of unwritten fields must not come here).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelHints {
    /// Address of `PsLoadedModuleList`.
    pub ps_loaded_module_list: Va,
    /// Address of `PsActiveProcessHead`.
    pub ps_active_process_head: Va,
    /// Address of `KdDebuggerDataBlock`.
    pub kd_debugger_data_block: Va,
    /// Address of the variable `MmPfnDatabase` (header field PfnDatabase).
    pub pfn_database: Va,
}
