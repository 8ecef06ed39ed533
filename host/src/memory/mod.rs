//! Memory: physical pages become address spaces.
//!
//! [`PageTables`] translate; [`View`] is what everything above reads; [`search()`] finds bytes in the pages themselves.
//! Nothing here knows symbols.

mod fault;
mod paging;
mod reach;
mod search;
mod text;
mod view;

pub use fault::{Absent, Detail, Level, ReadFault};
pub use paging::{Entries, PageEntry, PageTables, PagingMode, Translation, TranslationKind, WalkFault};
pub use reach::{each_page, reach};
pub use search::{Searched, search};
pub use text::TextRuns;
pub use view::{ReadOutcome, View};

#[cfg(test)]
mod tests;
