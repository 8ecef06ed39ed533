//! What tests need from outside the crate: the fixtures, the shared real dumps, and a fresh `kd` program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The folder of committed fixtures; `fixtures/README.md` says how each is made.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The folder of real dumps and symbols: `KD_SHARED`, else `../shared` beside the workspace.
///
/// These files belong to other people and are not part of the project, so a test must pass without them. When the
/// folder is absent this prints why the test did nothing and returns `None`.
pub fn shared() -> Option<PathBuf> {
    let folder = env::var_os("KD_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no real dumps at {} (set KD_SHARED)", folder.display());
    None
}

/// The path of a freshly built debug `kd`, with the extension libraries beside it.
///
/// Cargo builds neither the program nor the libraries for an integration test of another crate, so the first caller
/// builds the whole workspace; later callers wait for it.
pub fn kd_exe() -> &'static Path {
    static EXE: OnceLock<PathBuf> = OnceLock::new();
    EXE.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--workspace", "--quiet"])
            .current_dir(workspace())
            .status()
            .expect("cargo starts");
        assert!(status.success(), "cargo build --workspace failed: {status}");
        // target/debug/deps/integration-… → target/debug: right for any CARGO_TARGET_DIR.
        let test = env::current_exe().expect("the path of the test binary");
        let debug = test.parent().and_then(Path::parent).expect("a test binary lies in target/PROFILE/deps");
        debug.with_file_name("debug").join(format!("kd{}", env::consts::EXE_SUFFIX))
    })
}
