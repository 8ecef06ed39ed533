//! The functions and variables an image exports by name.

use super::{Headers, ImageBytes, u16_at, u32_at};

/// The most names that are taken; the kernel has some three thousand.
const MOST: u32 = 1 << 16;
/// The longest name.
const LONGEST: usize = 512;

/// An exported name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Where it is in the image.
    pub rva: u32,
}

/// The names an image exports, in the order of its table; those that cannot be read and those that lead into other
/// images are left out.
pub fn exports(image: &dyn ImageBytes, headers: &Headers) -> Vec<Export> {
    let Some(directory) = headers.export_directory() else { return Vec::new() };
    let mut table = [0; 40];
    if !image.read(directory.rva, &mut table) {
        return Vec::new();
    }
    let functions = u32_at(&table, 20).min(MOST);
    let names = u32_at(&table, 24).min(MOST);
    let [addresses, name_pointers, ordinals] = [28, 32, 36].map(|at| u32_at(&table, at));
    let inside = |rva: u32| rva.checked_sub(directory.rva).is_some_and(|at| at < directory.size);
    (0..names)
        .filter_map(|n| {
            let name = name_at(image, number(image, name_pointers.checked_add(n * 4)?, 4)?)?;
            let ordinal = number(image, ordinals.checked_add(n * 2)?, 2)?;
            let at = (ordinal < functions).then(|| addresses.checked_add(ordinal * 4))??;
            let rva = number(image, at, 4)?;
            (rva != 0 && !inside(rva)).then_some(Export { name, rva })
        })
        .collect()
}

/// The name that an image's table of exports gives the image.
pub fn export_name(image: &dyn ImageBytes, headers: &Headers) -> Option<String> {
    let table = headers.export_directory()?;
    name_at(image, number(image, table.rva.checked_add(12)?, 4)?).filter(|name| !name.is_empty())
}

fn number(image: &dyn ImageBytes, rva: u32, size: usize) -> Option<u32> {
    let mut bytes = [0; 4];
    image.read(rva, bytes.get_mut(..size)?).then(|| match size {
        2 => u16_at(&bytes, 0).into(),
        _ => u32_at(&bytes, 0),
    })
}

/// Text up to a NUL, read in small pieces because it may stand at the end of what is readable.
fn name_at(image: &dyn ImageBytes, mut rva: u32) -> Option<String> {
    let mut text = Vec::new();
    while text.len() < LONGEST {
        let mut piece = [0; 16];
        let length = if image.read(rva, &mut piece) { 16 } else { 1 };
        if length == 1 && !image.read(rva, piece.get_mut(..1)?) {
            return None;
        }
        let piece = piece.get(..length)?;
        match piece.iter().position(|byte| *byte == 0) {
            Some(end) => {
                text.extend_from_slice(piece.get(..end)?);
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            None => text.extend_from_slice(piece),
        }
        rva = rva.checked_add(length as u32)?;
    }
    None
}
