//! What the banner says: Windows, product, build, kinds of dump in KD's words.
//!
//! Words follow KD 10.0; for kinds whose words are not known they are ours. Everything here is text or a number
//! without a place on the screen.

use kd_sdk::address::Va;
use kd_sdk::nt::time;

use super::{Target, kd_fields as field};
use crate::dump::{DumpKind, Machine};

/// The most bytes of the build lab text.
const LONGEST_LAB: usize = 128;

/// Windows by build number: the first build of each, its name in KD's banner.
const NAMES: &[(u32, &str)] = &[
    (9800, "Windows 10"),
    (9600, "Windows 8.1"),
    (9200, "Windows 8"),
    (7600, "Windows 7"),
    (6001, "Windows Server 2008/Windows Vista"),
    (6000, "Windows Vista"),
    (3790, "Windows Server 2003"),
    (2600, "Windows XP"),
    (2195, "Windows 2000"),
];

/// Bits of `SuiteMask` and KD's words for them.
const SUITES: &[(u32, &str)] = &[
    (0x1, "SmallBusiness"),
    (0x2, "Enterprise"),
    (0x4, "BackOffice"),
    (0x8, "CommunicationServer"),
    (0x10, "TerminalServer"),
    (0x20, "SmallBusinessRestricted"),
    (0x40, "EmbeddedNT"),
    (0x80, "DataCenter"),
    (0x100, "SingleUserTS"),
    (0x200, "Personal"),
    (0x400, "Blade"),
    (0x800, "EmbeddedRestricted"),
    (0x1000, "SecurityAppliance"),
    (0x2000, "StorageServer"),
    (0x4000, "ComputeCluster"),
    (0x8000, "HomeServer"),
];

/// KD's name of Windows with this build: `Windows 10` for all builds since 9800, Windows 11 included.
pub fn windows_name(build: u32) -> &'static str {
    NAMES.iter().find(|(first, _)| build >= *first).map_or("Windows NT", |(_, name)| name)
}

/// `WinNt`, `LanManNt` or `Server`, by `ProductType`.
pub fn product_name(product_type: u32) -> &'static str {
    match product_type {
        1 => "WinNt",
        2 => "LanManNt",
        3 => "Server",
        _ => "<unknown>",
    }
}

/// The suites in a `SuiteMask`, with blanks between.
pub fn suite_names(suite_mask: u32) -> String {
    let names: Vec<&str> =
        SUITES.iter().filter(|(bit, _)| suite_mask & bit != 0).map(|(_, name)| *name).collect();
    names.join(" ")
}

/// KD's name of a machine: `x64`, `ARM 64-bit (AArch64)`, `x86 compatible`.
pub fn machine_name(machine: Machine) -> &'static str {
    match machine {
        Machine::X64 => "x64",
        Machine::X86 => "x86 compatible",
        Machine::Arm64 => "ARM 64-bit (AArch64)",
    }
}

/// The line of the banner that says what a dump of this kind holds.
pub fn kind_line(kind: DumpKind) -> &'static str {
    match kind {
        DumpKind::Full => "Kernel Complete Dump File: Full address space is available",
        DumpKind::Kernel => {
            "Kernel Summary Dump File: Kernel address space is available, User address space may not be available."
        }
        DumpKind::HeaderOnly => "Kernel Header Dump File: Only the header is available",
        DumpKind::Triage => "Mini Kernel Dump File: Only registers and stack trace are available",
        DumpKind::BitmapFull => "Kernel Bitmap Dump File: Full address space is available",
        DumpKind::BitmapKernel | DumpKind::Automatic => {
            "Kernel Bitmap Dump File: Kernel address space is available, User address space may not be available."
        }
        DumpKind::KernelRange => {
            "Kernel Range Dump File: Kernel address space is available, User address space may not be available."
        }
        DumpKind::KernelUserRange => "Kernel Range Dump File: Kernel and user address space is available",
        DumpKind::CompleteRange => "Kernel Range Dump File: Full address space is available",
    }
}

/// What `||` calls a dump of this kind, before the path: `64-bit Kernel triage dump`.
pub fn system_kind(kind: DumpKind, is_64_bit: bool) -> String {
    let name = match kind {
        DumpKind::Full => "Full kernel dump",
        DumpKind::Kernel => "Kernel summary dump",
        DumpKind::HeaderOnly => "Kernel header dump",
        DumpKind::Triage => "Kernel triage dump",
        DumpKind::BitmapFull | DumpKind::BitmapKernel | DumpKind::Automatic => "Kernel bitmap dump",
        DumpKind::KernelRange | DumpKind::KernelUserRange | DumpKind::CompleteRange => "Kernel range dump",
    };
    format!("{}-bit {name}", if is_64_bit { 64 } else { 32 })
}

/// What the target says about its Windows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// `MinorVersion`: the base build (19041 for all of Windows 10 2004 to 22H2).
    pub build: Option<u32>,
    /// True for a checked build; `None` when the header does not say.
    pub checked: Option<bool>,
    /// Count of processors.
    pub processors: u32,
    /// The machine.
    pub machine: Machine,
    /// `ProductType`.
    pub product_type: Option<u32>,
    /// `SuiteMask`.
    pub suite_mask: Option<u32>,
    /// The number of the service pack; zero for none.
    pub service_pack: u32,
    /// `NtBuildLab`: `19041.1.amd64fre.vb_release.191206-1406`.
    pub build_lab: Option<String>,
    /// The first address of the kernel image.
    pub kernel_base: Option<Va>,
    /// `PsLoadedModuleList`.
    pub ps_loaded_module_list: Option<Va>,
    /// When the dump was written, a FILETIME.
    pub system_time: Option<u64>,
    /// Time since the start, in units of 100 ns.
    pub system_up_time: Option<u64>,
}

impl Version {
    /// `Windows 10 Kernel Version 19041 MP (16 procs) Free x64`.
    pub fn windows_line(&self) -> String {
        let build = self.build.unwrap_or(0);
        let pack = match self.service_pack {
            0 => String::new(),
            number => format!(" (Service Pack {number})"),
        };
        let processors = match self.processors {
            0 | 1 => "UP".to_owned(),
            count => format!("MP ({count} procs)"),
        };
        let checked = if self.checked == Some(true) { "Checked" } else { "Free" };
        format!(
            "{} Kernel Version {build}{pack} {processors} {checked} {}",
            windows_name(build),
            machine_name(self.machine)
        )
    }

    /// `Product: WinNt, suite: TerminalServer SingleUserTS`; `None` when the header does not say.
    pub fn product_line(&self) -> Option<String> {
        let product = product_name(self.product_type?);
        let suites = suite_names(self.suite_mask.unwrap_or(0));
        Some(if suites.is_empty() {
            format!("Product: {product}")
        } else {
            format!("Product: {product}, suite: {suites}")
        })
    }

    /// `Kernel base = 0xfffff804`7ba00000 PsLoadedModuleList = 0xfffff804`7c62a390`.
    pub fn base_line(&self) -> String {
        let show = |va: Option<Va>| va.unwrap_or_default().show(self.machine.pointer_size());
        format!(
            "Kernel base = 0x{} PsLoadedModuleList = 0x{}",
            show(self.kernel_base),
            show(self.ps_loaded_module_list)
        )
    }

    /// `Debug session time: Sun Feb 21 01:38:22.987 2021 (UTC + 0:00)`.
    pub fn time_line(&self) -> String {
        let time = self.system_time.map_or_else(|| "not available".to_owned(), time::session_time);
        format!("Debug session time: {time}")
    }

    /// `System Uptime: 0 days 0:00:03.747`.
    pub fn up_time_line(&self) -> String {
        let time = self.system_up_time.map_or_else(|| "not available".to_owned(), time::up_time);
        format!("System Uptime: {time}")
    }
}

impl Target {
    /// The facts of the banner. The lists of modules are not needed unless the debugger data block is missing.
    pub fn version(&self) -> Version {
        let header = self.header();
        let data = self.kd_data();
        let service_pack = data
            .and_then(|data| data.va(field::CM_NT_CSD_VERSION))
            .and_then(|at| self.read_u32(at).ok())
            .or_else(|| self.dump.triage().map(|triage| triage.service_pack_build));
        Version {
            build: header.minor_version,
            checked: header.major_version.map(|major| major == 0xc),
            processors: header.number_processors.unwrap_or(1),
            machine: header.machine,
            product_type: header.product_type,
            suite_mask: header.suite_mask,
            // The text of the service pack as a number: 0x100 is "Service Pack 1".
            service_pack: service_pack.map_or(0, |word| word >> 8 & 0xff),
            build_lab: data.and_then(|data| data.va(field::NT_BUILD_LAB)).and_then(|at| self.read_lab(at)),
            kernel_base: self.kernel_base(),
            ps_loaded_module_list: header
                .ps_loaded_module_list
                .or_else(|| data?.va(field::PS_LOADED_MODULE_LIST)),
            system_time: header.system_time,
            system_up_time: header.system_up_time,
        }
    }

    /// The first address of the kernel image.
    pub fn kernel_base(&self) -> Option<Va> {
        let known = self.kd_data().and_then(|data| data.va(field::KERN_BASE));
        known.or_else(|| self.modules().iter().find(|module| module.is_kernel).map(|module| module.base))
    }

    fn read_lab(&self, at: Va) -> Option<String> {
        let mut bytes = [0; LONGEST_LAB];
        let done = self.read(at, &mut bytes).done;
        let bytes = bytes.get(..done)?;
        let end = bytes.iter().position(|&byte| byte == 0)?;
        let text = bytes.get(..end)?;
        let plain = !text.is_empty() && text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        plain.then(|| String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banner_words() {
        assert_eq!(windows_name(22000), "Windows 10");
        assert_eq!(windows_name(7601), "Windows 7");
        assert_eq!(windows_name(6002), "Windows Server 2008/Windows Vista");
        assert_eq!(windows_name(1381), "Windows NT");
        assert_eq!(suite_names(0x110), "TerminalServer SingleUserTS");
        assert_eq!(system_kind(DumpKind::Triage, true), "64-bit Kernel triage dump");
        let version = Version {
            build: Some(7601),
            checked: Some(false),
            processors: 1,
            machine: Machine::X86,
            product_type: Some(3),
            suite_mask: None,
            service_pack: 1,
            build_lab: None,
            kernel_base: Some(Va(0x8280_0000)),
            ps_loaded_module_list: None,
            system_time: None,
            system_up_time: None,
        };
        assert_eq!(
            version.windows_line(),
            "Windows 7 Kernel Version 7601 (Service Pack 1) UP Free x86 compatible"
        );
        assert_eq!(version.product_line().as_deref(), Some("Product: Server"));
        assert_eq!(version.base_line(), "Kernel base = 0x82800000 PsLoadedModuleList = 0x00000000");
        assert_eq!(version.up_time_line(), "System Uptime: not available");
    }
}
