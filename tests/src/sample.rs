//! The sample that ships: a kernel dump of a driver's crash, with symbols.

use crate::lab::pdb;
use crate::lab::world::{Options, World};
use crate::lab::writer::{self, Kind};
use std::fs;
use std::io;
use std::path::Path;

/// The system in the sample.
pub fn sample_world() -> World {
    World::build(Options::new("x64-19041"))
}

/// Writes the fixtures into `folder`; the same bytes every time.
pub fn make_fixtures(folder: &Path) -> io::Result<()> {
    let world = sample_world();
    fs::create_dir_all(folder)?;
    writer::write(&world, Kind::BitmapKernel, &folder.join("sample.dmp"))?;
    for name in ["nt", "faultdrv.sys"] {
        let image = world.image(name);
        let store = folder.join("symbols").join(&image.pdb).join(image.symbol_key());
        fs::create_dir_all(&store)?;
        fs::write(store.join(&image.pdb), pdb::pdb(world.options.generation, image))?;
    }
    Ok(())
}
