//! The layout proof: both sides bring abi_stable's description of every block, and the host compares the blocks
//! that both know, deeply, before it calls anything.
//!
//! The comparison always gets globals of its own: the crate's process-wide ones would keep pointers into libraries
//! that are long closed.

use super::*;
use abi_stable::abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals};
use abi_stable::library::AbiHeader;
use abi_stable::type_layout::TypeLayout;
use core::fmt;

/// The layout of one block, by name.
#[repr(C)]
pub struct BlockLayout {
    /// `memory.v1`
    pub name: RStr<'static>,
    /// abi_stable's description.
    pub layout: &'static TypeLayout,
}

/// Two blocks of the same name that are not the same.
#[derive(Debug)]
pub struct LayoutMismatch {
    /// The block.
    pub block: String,
    /// The first difference, in one line.
    pub difference: String,
}

impl fmt::Display for LayoutMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} differs ({})", self.block, self.difference)
    }
}

/// The header that says which abi_stable wrote the layouts.
pub fn abi_header() -> *const c_void {
    static HEADER: AbiHeader = AbiHeader::VALUE;
    (&raw const HEADER).cast()
}

macro_rules! blocks {
    ($function:ident, $doc:literal, $count:literal, $($name:literal => $block:ty),+ $(,)?) => {
        #[doc = $doc]
        pub fn $function() -> [BlockLayout; $count] {
            [$(BlockLayout { name: RStr::from_str($name), layout: <$block as StableAbi>::LAYOUT }),+]
        }
    };
}

blocks!(host_blocks, "The blocks that the host fills.", 11,
    "host.v1" => HostV1,
    "memory.v1" => MemoryV1,
    "target.v1" => TargetV1,
    "target.info" => TargetInfo,
    "symbols.v1" => SymbolV1,
    "types.v1" => TypeV1,
    "expressions.v1" => ExpressionV1,
    "output.v1" => OutputV1,
    "control.v1" => ControlV1,
    "stacks.v1" => StackV1,
    "code.v1" => CodeV1,
);

blocks!(extension_blocks, "The blocks that an extension fills.", 1, "extension.v1" => ExtensionV1);

/// Compares the blocks that both sides know. `Ok(false)`: no proof is possible (a C extension, or another version
/// of abi_stable); the versions in the tables are all there is.
///
/// # Safety
/// `header` and `layouts` come from an [`Extension`] whose library is loaded.
pub unsafe fn check_blocks(
    header: *const c_void,
    layouts: *const c_void,
    count: u64,
) -> Result<bool, LayoutMismatch> {
    if header.is_null() || layouts.is_null() || count == 0 || count > 64 {
        return Ok(false);
    }
    // SAFETY: the caller vouches for the pointers; the header's type is checked by its magic text below.
    let theirs = unsafe { &*header.cast::<AbiHeader>() };
    if !theirs.is_valid() {
        return Ok(false);
    }
    // SAFETY: the same abi_stable version wrote these, so `BlockLayout` has one meaning on both sides.
    let theirs = unsafe { core::slice::from_raw_parts(layouts.cast::<BlockLayout>(), count as usize) };
    let ours = host_blocks().into_iter().chain(extension_blocks());
    for our in ours {
        let Some(their) = theirs.iter().find(|their| their.name == our.name) else { continue };
        let globals = CheckingGlobals::new();
        if let Err(errors) = check_layout_compatibility_with_globals(our.layout, their.layout, &globals) {
            return Err(LayoutMismatch { block: our.name.to_string(), difference: first_line(&errors) });
        }
    }
    Ok(true)
}

/// abi_stable reports in hundreds of lines; the kind of the first difference and the field's name say enough.
fn first_line(errors: &abi_stable::abi_stability::abi_checking::AbiInstabilityErrors) -> String {
    let text = errors
        .errors
        .iter()
        .flat_map(|error| error.errs.iter())
        .map(|error| format!("{error:?}"))
        .next()
        .unwrap_or_else(|| "unknown difference".to_owned());
    let kind: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == ' ').collect();
    match text.split("name: \"").nth(1).and_then(|rest| rest.split('"').next()) {
        Some(name) => format!("{kind} in {name}"),
        None => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_agrees_with_itself() {
        let all: Vec<BlockLayout> = host_blocks().into_iter().chain(extension_blocks()).collect();
        let proved = unsafe { check_blocks(abi_header(), all.as_ptr().cast(), all.len() as u64) };
        assert!(proved.unwrap());
    }

    #[test]
    fn a_changed_signature_is_found() {
        #[repr(C)]
        #[derive(StableAbi)]
        struct ExpressionV1 {
            evaluate: unsafe extern "C" fn(ctx: *mut c_void, text: RStr<'_>, value: *mut u32) -> i32,
        }
        let all = [BlockLayout { name: RStr::from_str("expressions.v1"), layout: ExpressionV1::LAYOUT }];
        let mismatch = unsafe { check_blocks(abi_header(), all.as_ptr().cast(), 1) }.unwrap_err();
        assert_eq!(mismatch.block, "expressions.v1");
    }

    #[test]
    fn no_header_means_no_proof() {
        assert!(!unsafe { check_blocks(core::ptr::null(), core::ptr::null(), 0) }.unwrap());
    }
}
