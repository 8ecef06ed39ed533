//! Access tokens: user, groups, privileges.
//!
//! Structures from the kernel's own symbols. Since Vista privileges are three sets of bits, before an array of LUIDs
//! with attributes. Names of privileges and of well-known SIDs from the SDK's documentation.

use super::kernel::{Kernel, Record};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;

/// The most groups or privileges of one token.
const MOST_ITEMS: u64 = 4096;

#[rustfmt::skip]
/// Privileges by their number, from 2.
const PRIVILEGES: [&str; 35] = [
    "SeCreateTokenPrivilege", "SeAssignPrimaryTokenPrivilege", "SeLockMemoryPrivilege", "SeIncreaseQuotaPrivilege",
    "SeMachineAccountPrivilege", "SeTcbPrivilege", "SeSecurityPrivilege", "SeTakeOwnershipPrivilege",
    "SeLoadDriverPrivilege", "SeSystemProfilePrivilege", "SeSystemtimePrivilege", "SeProfileSingleProcessPrivilege",
    "SeIncreaseBasePriorityPrivilege", "SeCreatePagefilePrivilege", "SeCreatePermanentPrivilege", "SeBackupPrivilege",
    "SeRestorePrivilege", "SeShutdownPrivilege", "SeDebugPrivilege", "SeAuditPrivilege",
    "SeSystemEnvironmentPrivilege", "SeChangeNotifyPrivilege", "SeRemoteShutdownPrivilege", "SeUndockPrivilege",
    "SeSyncAgentPrivilege", "SeEnableDelegationPrivilege", "SeManageVolumePrivilege", "SeImpersonatePrivilege",
    "SeCreateGlobalPrivilege", "SeTrustedCredManAccessPrivilege", "SeRelabelPrivilege",
    "SeIncreaseWorkingSetPrivilege", "SeTimeZonePrivilege", "SeCreateSymbolicLinkPrivilege",
    "SeDelegateSessionUserImpersonatePrivilege",
];

#[rustfmt::skip]
/// SIDs that are the same everywhere.
const WELL_KNOWN: [(&str, &str); 33] = [
    ("S-1-0-0", "Nobody"), ("S-1-1-0", "Everyone"), ("S-1-2-0", "Local"), ("S-1-2-1", "Console Logon"),
    ("S-1-3-0", "Creator Owner"), ("S-1-5-2", "Network"), ("S-1-5-3", "Batch"), ("S-1-5-4", "Interactive"),
    ("S-1-5-6", "Service"), ("S-1-5-7", "Anonymous"), ("S-1-5-11", "Authenticated Users"),
    ("S-1-5-12", "Restricted Code"), ("S-1-5-13", "Terminal Server Users"), ("S-1-5-14", "Remote Interactive Logon"),
    ("S-1-5-15", "This Organization"), ("S-1-5-18", "Local System"), ("S-1-5-19", "Local Service"),
    ("S-1-5-20", "Network Service"), ("S-1-5-32-544", "Administrators"), ("S-1-5-32-545", "Users"),
    ("S-1-5-32-546", "Guests"), ("S-1-5-32-547", "Power Users"), ("S-1-5-32-551", "Backup Operators"),
    ("S-1-5-32-555", "Remote Desktop Users"), ("S-1-5-113", "Local account"),
    ("S-1-15-2-1", "All application packages"), ("S-1-16-0", "Untrusted Mandatory Level"),
    ("S-1-16-4096", "Low Mandatory Level"), ("S-1-16-8192", "Medium Mandatory Level"),
    ("S-1-16-8448", "Medium Plus Mandatory Level"), ("S-1-16-12288", "High Mandatory Level"),
    ("S-1-16-16384", "System Mandatory Level"), ("S-1-16-20480", "Protected Process Mandatory Level"),
];

/// A token.
pub struct Token<'a> {
    /// The `_TOKEN`.
    pub at: Va,
    /// Its bytes.
    pub record: Record<'a>,
}

/// A SID with its attributes.
#[derive(Clone, Debug)]
pub struct Group {
    /// `S-1-5-18`, or why it cannot be read.
    pub sid: Result<String>,
    /// `SE_GROUP_*`.
    pub attributes: u64,
}

/// A privilege that a token has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Privilege {
    /// Its number.
    pub number: u64,
    /// In force.
    pub enabled: bool,
    /// In force when the token was made.
    pub by_default: bool,
}

impl<'a> Token<'a> {
    /// Reads the token at an address.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(kernel: &Kernel<'a>, at: Va) -> Result<Token<'a>> {
        Ok(Token { at, record: kernel.read("_TOKEN", at)? })
    }

    /// The user, then the groups.
    ///
    /// # Errors
    /// Where the array cannot be read.
    pub fn groups(&self, kernel: &Kernel<'a>) -> Result<Vec<Group>> {
        self.sids(kernel, "UserAndGroups", "UserAndGroupCount")
    }

    /// The SIDs that restrict it.
    ///
    /// # Errors
    /// Where the array cannot be read.
    pub fn restricted(&self, kernel: &Kernel<'a>) -> Result<Vec<Group>> {
        self.sids(kernel, "RestrictedSids", "RestrictedSidCount")
    }

    /// The capabilities of an application package.
    ///
    /// # Errors
    /// Where the array cannot be read.
    pub fn capabilities(&self, kernel: &Kernel<'a>) -> Result<Vec<Group>> {
        if !self.record.has("Capabilities") {
            return Ok(Vec::new());
        }
        self.sids(kernel, "Capabilities", "CapabilityCount")
    }

    fn sids(&self, kernel: &Kernel<'a>, array: &str, count: &str) -> Result<Vec<Group>> {
        let (at, count) = (self.record.pointer(array)?, self.record.u64(count)?);
        if count > MOST_ITEMS {
            return Err(Error::Other(format!("{count} entries of {array} are more than a token has")));
        }
        let size = kernel.structure("_SID_AND_ATTRIBUTES")?.size();
        let mut groups = Vec::new();
        if at.is_null() {
            return Ok(groups);
        }
        for index in 0..count {
            kernel.session().check_interrupt()?;
            let group = kernel.read("_SID_AND_ATTRIBUTES", at.add(index * size))?;
            let sid = group.pointer("Sid").and_then(|sid| read_sid(kernel.session().memory(), sid));
            groups.push(Group { sid, attributes: group.u64("Attributes")? });
        }
        Ok(groups)
    }

    /// The primary group.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn primary_group(&self, kernel: &Kernel<'a>) -> Result<String> {
        read_sid(kernel.session().memory(), self.record.pointer("PrimaryGroup")?)
    }

    /// Its privileges by number.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn privileges(&self, kernel: &Kernel<'a>) -> Result<Vec<Privilege>> {
        if self.record.has("Privileges.Present") {
            let set = |part: &str| self.record.u64(&format!("Privileges.{part}"));
            let (present, enabled, default) = (set("Present")?, set("Enabled")?, set("EnabledByDefault")?);
            let has = |set: u64, number: u64| set >> number & 1 != 0;
            let numbers = (0..64).filter(|&number| has(present, number));
            return Ok(numbers
                .map(|number| Privilege {
                    number,
                    enabled: has(enabled, number),
                    by_default: has(default, number),
                })
                .collect());
        }
        // An array of LUIDs, 8 bytes each, with 4 bytes of attributes.
        let (at, count) = (self.record.pointer("Privileges")?, self.record.u64("PrivilegeCount")?);
        if count > MOST_ITEMS {
            return Err(Error::Other(format!("{count} privileges are more than a token has")));
        }
        let memory = kernel.session().memory();
        (0..count)
            .map(|index| {
                let entry = at.add(index * 12);
                let attributes = memory.u32(entry.add(8))?;
                let number = u64::from(memory.u32(entry)?);
                Ok(Privilege { number, enabled: attributes & 2 != 0, by_default: attributes & 1 != 0 })
            })
            .collect()
    }

    /// A LUID field as one number.
    pub fn luid(&self, path: &str) -> Result<u64> {
        let low = self.record.u64(&format!("{path}.LowPart"))?;
        Ok(self.record.u64(&format!("{path}.HighPart"))? << 32 | low)
    }
}

/// The SID at an address as text.
///
/// # Errors
/// Where it cannot be read, or is none.
pub fn read_sid(memory: Memory<'_>, at: Va) -> Result<String> {
    if at.is_null() {
        return Err(Error::NotFound("no SID".to_owned()));
    }
    let head = memory.bytes(at, 8)?;
    let count = usize::from(head.get(1).copied().unwrap_or(0));
    if head.first() != Some(&1) || count > 15 {
        return Err(Error::Other("what stands there is no SID".to_owned()));
    }
    Ok(sid_text(&head, &memory.bytes(at.add(8), 4 * count)?))
}

/// `S-1-5-18` from the 8 bytes of the head and the sub-authorities.
fn sid_text(head: &[u8], rest: &[u8]) -> String {
    let authority = head.iter().skip(2).take(6).fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let mut text = format!("S-1-{authority}");
    for part in rest.chunks_exact(4) {
        let part = part.iter().rev().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
        text.push_str(&format!("-{part}"));
    }
    text
}

/// What a SID is called where it is the same on every machine.
pub fn well_known(sid: &str) -> Option<&'static str> {
    WELL_KNOWN.iter().find(|known| known.0 == sid).map(|known| known.1)
}

/// The name of a privilege.
pub fn privilege_name(number: u64) -> Option<&'static str> {
    PRIVILEGES.get(usize::try_from(number.checked_sub(2)?).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sids_are_spelled() {
        let user = sid_text(&[1, 2, 0, 0, 0, 0, 0, 5], &[32, 0, 0, 0, 0x20, 2, 0, 0]);
        assert_eq!(user, "S-1-5-32-544");
        assert_eq!(well_known(&user), Some("Administrators"));
        assert_eq!(well_known("S-1-5-21-1-2-3-500"), None);
    }

    #[test]
    fn privileges_have_names() {
        assert_eq!(privilege_name(2), Some("SeCreateTokenPrivilege"));
        assert_eq!(privilege_name(20), Some("SeDebugPrivilege"));
        assert_eq!(privilege_name(23), Some("SeChangeNotifyPrivilege"));
        assert_eq!(privilege_name(36), Some("SeDelegateSessionUserImpersonatePrivilege"));
        assert_eq!((privilege_name(1), privilege_name(37)), (None, None));
    }
}
