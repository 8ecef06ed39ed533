//! Which modules belong to Windows, and how likely each is the cause rather than the victim.

use std::collections::HashMap;
use std::sync::LazyLock;

const TABLE: &str = include_str!("data/windows.txt");

/// What a module is to the analysis. The order is from the least to the most suspicious.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// The kernel and what stands beside it: never the cause on its own.
    Core,
    /// Class drivers, file systems, frameworks: they run for other drivers.
    Framework,
    /// A driver of Windows for one device or feature.
    Inbox,
    /// Not part of Windows.
    ThirdParty,
}

static CLASSES: LazyLock<HashMap<&'static str, Class>> = LazyLock::new(|| {
    let mut classes = HashMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let class = match words.next() {
            Some("core") => Class::Core,
            Some("framework") => Class::Framework,
            Some("inbox") => Class::Inbox,
            _ => continue,
        };
        for word in words {
            classes.entry(word).or_insert(class);
        }
    }
    classes
});

/// The class of a module by its file name.
pub fn class(image: &str) -> Class {
    let lower = image.to_ascii_lowercase();
    let stem = lower.rsplit_once('.').map_or(lower.as_str(), |(stem, _)| stem);
    // The crash dump stack loads copies of the disk drivers under this prefix.
    if stem.starts_with("dump_") {
        return Class::Framework;
    }
    CLASSES.get(stem).copied().unwrap_or(Class::ThirdParty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        assert_eq!(class("ntoskrnl.exe"), Class::Core);
        assert_eq!(class("FLTMGR.SYS"), Class::Framework);
        assert_eq!(class("Wdf01000.sys"), Class::Framework);
        assert_eq!(class("amdppm.sys"), Class::Inbox);
        assert_eq!(class("nvlddmkm.sys"), Class::ThirdParty);
        assert_eq!(class("dump_storport.sys"), Class::Framework);
    }
}
