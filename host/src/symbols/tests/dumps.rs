//! Real small dumps with the store: their kernel is found by its image, and by the addresses in the header alone.

use super::super::*;
use super::symstore;
use crate::dump::{Dump, OpenOptions};
use crate::target::Target;
use std::time::Instant;

/// A target; `by_header` hides the kernel's time stamp, so that only the header's addresses are left.
struct Real {
    target: Target,
    by_header: bool,
}

impl ModuleSource for Real {
    fn modules(&self) -> usize {
        self.target.modules().len()
    }

    fn module(&self, index: usize) -> Option<Module<'_>> {
        self.target.modules().get(index).map(|module| Module {
            base: module.base,
            size: module.size,
            name: &module.name,
            image: &module.image,
            time_stamp: if self.by_header { 0 } else { module.time_stamp },
            is_kernel: module.is_kernel,
        })
    }

    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        self.target.view().read(va, into).complete().is_ok()
    }

    fn kernel_hints(&self) -> KernelHints {
        let header = self.target.header();
        KernelHints {
            ps_loaded_module_list: header.ps_loaded_module_list.unwrap_or_default(),
            ps_active_process_head: header.ps_active_process_head.unwrap_or_default(),
            kd_debugger_data_block: header.kd_debugger_data_block.unwrap_or_default(),
            pfn_database: header.pfn_database.unwrap_or_default(),
        }
    }
}

#[test]
fn kernels_of_real_dumps_are_found() {
    let Some(store) = symstore() else { return };
    let dumps = store.join("../../dumps/real");
    for (name, key) in [
        ("x64-19041-7e.dmp", Some(super::KERNEL_804)),
        ("x64-19041-50-nx.dmp", Some(super::KERNEL_2023)),
        ("x64-19041-133.dmp", None),
        ("x64-9600-7e.dmp", None),
        ("arm64-22000-1c8.dmp", None),
    ] {
        for by_header in [false, true] {
            let target = Target::open(Dump::open(&dumps.join(name), &OpenOptions::default()).unwrap());
            let source = Real { target, by_header };
            let symbols = Symbols::new(SymbolPath::parse(&format!("srv*{}", store.display())));
            let started = Instant::now();
            let found = symbols.find(&source, "nt!PsActiveProcessHead");
            println!("{name}: {:?}", started.elapsed());
            let number = symbols.module_named(&source, "nt").unwrap();
            match (key, symbols.state(&source, number)) {
                (Some(key), ModuleState::Loaded { id, matched, .. }) => {
                    assert_eq!(id.to_string(), key);
                    assert_eq!(matched == Matched::HeaderAddresses, by_header);
                    assert_eq!(found.unwrap(), source.kernel_hints().ps_active_process_head);
                }
                (None, ModuleState::None { reason }) => println!("  {reason}"),
                (_, state) => panic!("{name}: {state:?}"),
            }
        }
    }
}
