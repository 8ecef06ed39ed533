//! The renderers: a million fields in records of eight, as text and as JSON.

use divan::Bencher;
use divan::counter::ItemsCount;
use kd::ui::{CommandHead, Status, Ui, UiOptions};
use kd_sdk::output::Value;
use std::io;

const RECORDS: u64 = 125_000;

fn main() {
    divan::main();
}

fn render(bencher: Bencher<'_, '_>, json: bool, color: bool) {
    let options = UiOptions { json, ..UiOptions::default() };
    let ui = Ui::with_streams(options, color, Box::new(io::sink()), Box::new(io::sink()));
    bencher.counter(ItemsCount::new(RECORDS * 8)).bench(|| {
        ui.begin_command(&CommandHead { seq: 1, target: Some(0), line: "lm" });
        ui.out().list("items", |out| {
            for n in 0..RECORDS {
                out.record("", |out| {
                    let start = 0xffff_f804_0000_0000 + n * 0x1000;
                    out.field("start", Value::Hex(start), "fffff804`00000000");
                    out.field("end", Value::Hex(start + 0x1000), "fffff804`00001000");
                    out.field("name", Value::Text("faultdrv"), "faultdrv");
                    out.field("image", Value::Text("\\SystemRoot\\faultdrv.sys"), "faultdrv.sys");
                    out.field("size", Value::UInt(0x1000), "00001000");
                    out.field("delta", Value::Int(-1), "-1");
                    out.field("kernel", Value::Bool(true), "");
                    out.field("time", Value::Time(133_604_148_300_000_000 + n), "");
                    out.end_line();
                });
            }
        });
        ui.end_command(Status::Ok);
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn plain_text(bencher: Bencher<'_, '_>) {
    render(bencher, false, false);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn colored_text(bencher: Bencher<'_, '_>) {
    render(bencher, false, true);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn json(bencher: Bencher<'_, '_>) {
    render(bencher, true, false);
}
