#!/usr/bin/env python3
"""Reads the laboratory's dumps with other people's readers and compares every page.

    python3 -m venv v && v/bin/pip install volatility3 leechcorepyc
    cargo run -p kd-tests --bin make-lab -- target/lab
    v/bin/python tests/oracle/readers.py target/lab

LeechCore needs libusb-1.0 on Linux and wants files of 16 MiB, so it gets copies with zeros at the end; it takes
what it does not know for raw memory, so it is only asked what it knows. A reader that is not installed is skipped.
Volatility knows kinds 1 and 5 only; kinds 6 and 7 have the same form, so it gets them with their number changed to 5.
"""

import json
import pathlib
import sys
import tempfile

PAGE = 0x1000
SCRATCH = tempfile.TemporaryDirectory()


def frames(truth, kind):
    """Frame numbers that a dump of this kind holds."""
    return [pfn for base, count in truth["frames"][kind] for pfn in range(base, base + count)]


def copy_of(path, data):
    """A changed copy of a dump, removed when the program ends."""
    copy = pathlib.Path(SCRATCH.name) / path.name
    copy.write_bytes(data)
    return copy


def with_volatility(path, truth, kind):
    from volatility3.framework import contexts
    from volatility3.framework.layers import crash, physical

    wide = truth["machine"] != 0x14C
    if kind not in ("1", "5", "6", "7"):
        return None
    if kind in ("6", "7"):
        data = bytearray(path.read_bytes())
        data[0xF98 if wide else 0xF88] = 5
        path = copy_of(path, data)
    context = contexts.Context()
    context.config["file.location"] = path.resolve().as_uri()
    context.add_layer(physical.FileLayer(context, "file", "file"))
    layer_class = crash.WindowsCrashDump64Layer if wide else crash.WindowsCrashDump32Layer
    context.config["dump.base_layer"] = "file"
    layer = layer_class(context, "dump", "dump")
    found = sorted(
        (offset + step) // PAGE
        for offset, _, _, size, _ in layer.mapping(0, layer.maximum_address, ignore_errors=True)
        for step in range(0, size, PAGE)
    )
    return set(found), lambda pfn: layer.read(pfn * PAGE, PAGE)


def with_leechcore(path, truth, kind):
    import leechcorepyc

    wide = truth["machine"] != 0x14C
    if kind not in (("1", "5", "6") if wide else ("1",)):
        return None
    path = copy_of(path, path.read_bytes().ljust(16 << 20, b"\0"))
    reader = leechcorepyc.LeechCore(f"file://{path}")
    return None, lambda pfn: reader.read(pfn * PAGE, PAGE)


def main(folder):
    failed = False
    for truth_path in sorted(folder.glob("*.json")):
        truth = json.loads(truth_path.read_text())
        raw = truth_path.with_suffix(".raw").read_bytes()
        for reader in (with_volatility, with_leechcore):
            for kind in truth["frames"]:
                path = folder / f"{truth_path.stem}-{kind}.dmp"
                what = f"{path.name:24} {reader.__name__[5:]:11}"
                wanted = frames(truth, kind)
                try:
                    opened = reader(path, truth, kind)
                    if opened is None:
                        continue
                    found, read = opened
                    missing = set(wanted) ^ found if found is not None else set()
                    wrong = [pfn for pfn in wanted if read(pfn) != raw[pfn * PAGE : (pfn + 1) * PAGE]]
                except ImportError as error:
                    print(f"{what} skipped: {error}")
                    continue
                except Exception as error:  # whatever another reader raises is an answer
                    print(f"{what} refused: {type(error).__name__}: {error}")
                    continue
                bad = bool(missing or wrong)
                failed |= bad
                detail = f"{len(missing)} frames differ, {len(wrong)} pages differ" if bad else "agrees"
                print(f"{what} {detail} ({len(wanted)} pages)")
    return failed


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
