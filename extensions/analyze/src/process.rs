//! The name of a process: by types where they are loaded, else by the shape of its bytes.

use crate::stack::Bytes;
use kd_sdk::address::Va;
use kd_sdk::session::Session;

/// Offset of KDDEBUGGER_DATA64.SizeEProcess.
const KD_SIZE_EPROCESS: u32 = 0x2a8;
/// Offset of KDDEBUGGER_DATA64.OffsetEprocessParentCID.
const KD_PARENT_CID: u32 = 0x2ac;

/// The crashed process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its EPROCESS.
    pub address: Va,
    /// Image name; empty where it could not be read.
    pub name: String,
    /// True if the name was found by its shape, without types.
    pub by_shape: bool,
}

/// The name of the crashed process.
pub fn process(session: &Session<'_>, address: Va) -> Process {
    if let Some(name) = session
        .types()
        .find("nt!_EPROCESS")
        .and_then(|eprocess| session.memory().ansi(eprocess.at(address).address("ImageFileName")?, 15))
        .ok()
        .filter(|name| !name.is_empty())
    {
        return Process { address, name, by_shape: false };
    }
    let target = session.target();
    let parent = target.kd_data_offset(KD_PARENT_CID).unwrap_or(0);
    let size = target.kd_data_offset(KD_SIZE_EPROCESS).unwrap_or(0x1000).min(0x1000);
    let bytes = session.memory().gather(address, usize::try_from(size).unwrap_or(0));
    let start = usize::try_from(parent).unwrap_or(0);
    let name = if start == 0 { None } else { bytes.get(start..).and_then(find_image_name) };
    Process { address, name: name.unwrap_or_default(), by_shape: true }
}

/// An image name in the bytes that follow the parent's process id: 15 bytes of text padded with zeros, then the
/// priority class (0 to 6), within 0x100 bytes in every x64 build.
pub fn find_image_name(bytes: &[u8]) -> Option<String> {
    // The name is aligned to 4 bytes everywhere.
    (8..0x100usize).step_by(4).find_map(|at| {
        let field = bytes.get(at..at + 15)?;
        let class = *bytes.get(at + 15)?;
        let len = field.iter().position(|&byte| byte == 0).unwrap_or(15);
        let (text, padding) = field.split_at_checked(len)?;
        let printable = text.iter().all(|byte| (0x20..0x7f).contains(byte));
        let lettered = text.iter().filter(|byte| byte.is_ascii_alphanumeric()).count() >= 2;
        let whole = text.len() >= 3 && printable && lettered && padding.iter().all(|&byte| byte == 0);
        (whole && class <= 6).then(|| text.iter().map(|&byte| char::from(byte)).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_name_is_known_by_its_shape() {
        let mut bytes = vec![0u8; 0x100];
        bytes[0x68..0x6e].copy_from_slice(b"System");
        bytes[0x77] = 2;
        assert_eq!(find_image_name(&bytes).as_deref(), Some("System"));
        bytes[0x77] = 9;
        assert_eq!(find_image_name(&bytes), None);
        assert_eq!(find_image_name(&bytes[..0x60]), None);
        let mut full = vec![0u8; 0x100];
        full[0x50..0x5f].copy_from_slice(b"SearchIndexer.e");
        full[0x5f] = 2;
        assert_eq!(find_image_name(&full).as_deref(), Some("SearchIndexer.e"));
    }
}
