//! Packs kernels that `kernels/build.sh FOLDER` built: `cargo run -p kd-tests --bin make-kernels -- FOLDER`.

fn main() -> std::io::Result<()> {
    let folder =
        std::env::args().nth(1).ok_or_else(|| std::io::Error::other("usage: make-kernels FOLDER"))?;
    kd_tests::lab::kernels::pack(folder.as_ref())
}
