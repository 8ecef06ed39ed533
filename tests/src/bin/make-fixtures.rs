//! Writes the committed fixtures. `cargo run -p kd-tests --bin make-fixtures`.

fn main() -> std::io::Result<()> {
    kd_tests::make_fixtures(&kd_tests::fixtures())
}
