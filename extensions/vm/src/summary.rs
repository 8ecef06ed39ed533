//! The rows of the summary and what is wrong with the numbers.

use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::memory::Counter;
use kd_sdk::prelude::*;

/// A row: its label, its name for programs, the counters that tell it, and whether they count bytes.
pub struct Row {
    pub label: &'static str,
    pub key: &'static str,
    counters: &'static [(Counter, Unit)],
}

/// What a counter counts.
#[derive(Clone, Copy)]
enum Unit {
    Pages,
    Bytes,
    /// Things that are no pages.
    Items,
}

use Unit::{Bytes, Items, Pages};

#[rustfmt::skip]
/// Before the page files.
pub static PHYSICAL: &[Row] = &[
    Row { label: "Physical Memory", key: "physical_memory", counters: &[(Counter::NumberOfPhysicalPages, Pages)] },
];

#[rustfmt::skip]
/// After them, in KD's order.
pub static ROWS: &[Row] = &[
    Row { label: "Available Pages", key: "available_pages", counters: &[(Counter::AvailablePages, Pages)] },
    Row { label: "ResAvail Pages", key: "resident_available_pages", counters: &[(Counter::ResidentAvailablePages, Pages)] },
    Row { label: "Locked IO Pages", key: "locked_io_pages", counters: &[(Counter::LockedIoPages, Pages)] },
    Row { label: "Free System PTEs", key: "free_system_ptes", counters: &[(Counter::FreeSystemPtes, Items)] },
    Row { label: "Free NP PTEs", key: "free_nonpaged_ptes", counters: &[(Counter::NonPagedFreePtes, Items)] },
    Row { label: "Free Special NP", key: "free_special_ptes", counters: &[(Counter::SpecialFreePtes, Items)] },
    Row { label: "Modified Pages", key: "modified_pages", counters: &[(Counter::ModifiedPages, Pages)] },
    Row { label: "Modified PF Pages", key: "modified_page_file_pages", counters: &[(Counter::ModifiedPageFilePages, Pages)] },
    Row { label: "Modified No Write Pages", key: "modified_no_write_pages", counters: &[(Counter::ModifiedNoWritePages, Pages)] },
    Row { label: "Standby Pages", key: "standby_pages", counters: &[(Counter::StandbyPages, Pages)] },
    Row { label: "Free Pages", key: "free_pages", counters: &[(Counter::FreePages, Pages)] },
    Row { label: "Zeroed Pages", key: "zeroed_pages", counters: &[(Counter::ZeroedPages, Pages)] },
    Row { label: "NonPagedPool Usage", key: "nonpaged_pool_usage", counters: &[(Counter::NonPagedPoolPages, Pages), (Counter::NonPagedPoolBytes, Bytes)] },
    Row { label: "NonPagedPool Max", key: "nonpaged_pool_maximum", counters: &[(Counter::NonPagedPoolMaximumPages, Pages), (Counter::NonPagedPoolMaximumBytes, Bytes)] },
];

#[rustfmt::skip]
/// After the single paged pools.
pub static REST: &[Row] = &[
    Row { label: "PagedPool Usage", key: "paged_pool_usage", counters: &[(Counter::PagedPoolPages, Pages)] },
    Row { label: "PagedPool Maximum", key: "paged_pool_maximum", counters: &[(Counter::PagedPoolMaximumPages, Pages), (Counter::PagedPoolMaximumBytes, Bytes)] },
    Row { label: "Shared Commit", key: "shared_commit", counters: &[(Counter::SharedCommit, Pages)] },
    Row { label: "Special Pool", key: "special_pool", counters: &[(Counter::SpecialPoolPages, Pages)] },
    Row { label: "Kernel Stacks", key: "kernel_stacks", counters: &[(Counter::KernelStackPages, Pages)] },
    Row { label: "Shared Process", key: "shared_process", counters: &[(Counter::ProcessCommit, Pages)] },
    Row { label: "Slab Allocator Pages", key: "slab_allocator_pages", counters: &[(Counter::SlabAllocatorPages, Pages)] },
    Row { label: "NonPagedPool Commit", key: "nonpaged_pool_commit", counters: &[(Counter::NonPagedPoolCommit, Pages)] },
    Row { label: "PagedPool Commit", key: "paged_pool_commit", counters: &[(Counter::PagedPoolCommit, Pages)] },
    Row { label: "Driver Commit", key: "driver_commit", counters: &[(Counter::DriverCommit, Pages)] },
    Row { label: "Boot Commit", key: "boot_commit", counters: &[(Counter::BootCommit, Pages)] },
    Row { label: "PFN Array Commit", key: "pfn_array_commit", counters: &[(Counter::PfnDatabaseCommit, Pages)] },
    Row { label: "System PageTables", key: "system_page_tables", counters: &[(Counter::SystemPageTableCommit, Pages)] },
    Row { label: "Committed pages", key: "committed_pages", counters: &[(Counter::TotalCommittedPages, Pages)] },
    Row { label: "Commit limit", key: "commit_limit", counters: &[(Counter::TotalCommitLimit, Pages)] },
    Row { label: "Commit limit maximum", key: "commit_limit_maximum", counters: &[(Counter::TotalCommitLimitMaximum, Pages)] },
    Row { label: "Peak commitment", key: "peak_commitment", counters: &[(Counter::PeakCommitment, Pages)] },
];

/// Every row, for what is judged.
fn all() -> impl Iterator<Item = &'static Row> {
    PHYSICAL.iter().chain(ROWS).chain(REST)
}

impl Row {
    /// Pages, or items; `None` where this version of Windows has no such counter.
    pub fn read(&self, session: &Session<'_>) -> Result<Option<u64>> {
        let mut failed = None;
        for &(counter, unit) in self.counters {
            match counter.read(session) {
                Ok(Some(value)) => {
                    return Ok(Some(if matches!(unit, Bytes) { value / PAGE_SIZE } else { value }));
                }
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// True for rows of pages, which have Kb.
    pub fn is_pages(&self) -> bool {
        self.counters.iter().all(|(_, unit)| !matches!(unit, Items))
    }
}

/// What was read: value by key.
#[derive(Default)]
pub struct Numbers {
    known: Vec<(&'static str, u64)>,
    /// Pages of all page files, and how many of them are free.
    pub page_files: Option<(u64, u64)>,
    /// Counters whose place is known, and which the dump does not hold.
    pub absent: u64,
}

impl Numbers {
    /// Remembers a number.
    pub fn put(&mut self, key: &'static str, value: u64) {
        debug_assert!(all().any(|row| row.key == key));
        self.known.push((key, value));
    }

    fn get(&self, key: &str) -> Option<u64> {
        self.known.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// True where nothing was found at all.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// A limit that is near.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    /// Key of the row.
    pub about: &'static str,
    /// What is wrong.
    pub text: String,
    /// The next command.
    pub next: &'static str,
}

/// Which limits are near.
pub fn judge(numbers: &Numbers) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut say = |about, text: String, next| found.push(Warning { about, text, next });
    let percent = |part: u64, whole: u64| u128::from(part) * 100 / u128::from(whole.max(1));
    if let (Some(available), Some(all)) = (numbers.get("available_pages"), numbers.get("physical_memory"))
        && (available < 1000 || available < all / 64)
    {
        say("available_pages", format!("only {available} pages of {all} are available"), "!memusage 8");
    }
    if let Some(resident) = numbers.get("resident_available_pages") {
        // It is signed: overcommitted systems are below zero.
        let signed = resident as i64;
        if signed < 100 {
            say(
                "resident_available_pages",
                format!("{signed} resident available pages: memory cannot be locked any more"),
                "!memusage 8",
            );
        }
    }
    for (about, used, most, name, next) in [
        (
            "nonpaged_pool_usage",
            "nonpaged_pool_usage",
            "nonpaged_pool_maximum",
            "nonpaged pool",
            "!poolused 2",
        ),
        ("paged_pool_usage", "paged_pool_usage", "paged_pool_maximum", "paged pool", "!poolused 4"),
    ] {
        if let (Some(used), Some(most)) = (numbers.get(used), numbers.get(most))
            && most != 0
            && percent(used, most) > 80
        {
            say(
                about,
                format!("{name} is at {} % of its maximum: {used} of {most} pages", percent(used, most)),
                next,
            );
        }
    }
    if let (Some(committed), Some(limit)) = (numbers.get("committed_pages"), numbers.get("commit_limit"))
        && limit != 0
        && percent(committed, limit) > 90
    {
        let text = format!(
            "commitment is at {} % of the limit: {committed} of {limit} pages",
            percent(committed, limit)
        );
        say("committed_pages", text, "!vm");
    }
    if let Some((size, free)) = numbers.page_files
        && size != 0
        && percent(free, size) < 10
    {
        say("page_files", format!("page files have {free} of {size} pages free"), "!vm 8");
    }
    if let Some(free) = numbers.get("free_system_ptes")
        && free < 1000
    {
        say(
            "free_system_ptes",
            format!("only {free} system PTEs are free: mapping memory fails"),
            "!sysptes",
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_seen() {
        let mut numbers = Numbers::default();
        for (key, value) in [
            ("physical_memory", 1 << 20),
            ("available_pages", 500),
            ("resident_available_pages", u64::MAX - 4),
            ("nonpaged_pool_usage", 97),
            ("nonpaged_pool_maximum", 100),
            ("paged_pool_usage", 80),
            ("paged_pool_maximum", 100),
            ("committed_pages", 99),
            ("commit_limit", 100),
            ("free_system_ptes", 30_000),
        ] {
            numbers.put(key, value);
        }
        numbers.page_files = Some((100, 9));
        let found = judge(&numbers);
        let about: Vec<&str> = found.iter().map(|warning| warning.about).collect();
        let wanted = [
            "available_pages",
            "resident_available_pages",
            "nonpaged_pool_usage",
            "committed_pages",
            "page_files",
        ];
        assert_eq!(about, wanted);
        assert!(found[1].text.starts_with("-5 "), "{}", found[1].text);
        assert_eq!(judge(&Numbers::default()), []);
    }

    #[test]
    fn rows_have_names_of_their_own() {
        let mut keys: Vec<&str> = all().map(|row| row.key).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
