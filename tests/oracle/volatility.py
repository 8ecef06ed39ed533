#!/usr/bin/env python3
"""Makes a laboratory dump, reads it with volatility3 and with kd, and compares what both find.

    python3 -m venv v && v/bin/pip install volatility3
    v/bin/python tests/oracle/volatility.py [GENERATION:STORY] [KIND]

Processes, modules, threads and handles of volatility3's plugins pslist, modules, threads and handles, with a symbol table
that its own pdbconv makes from the laboratory's PDB, are held against what the laboratory knows to be true; modules
also against what `kd --json` says. KIND is 5 (the default) or 1: volatility3 reads no others. x64 only: it knows the
layout of crash dumps of arm64 not, and asks for more of 32-bit systems than the laboratory has.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NESTED = 0x1510  # LF_NESTTYPE: names a type that is declared in another; pdbconv does not know it


def symbol_table(pdb, target):
    """Converts a PDB with volatility3's own converter."""
    from volatility3.framework import contexts
    from volatility3.framework.symbols import windows
    from volatility3.framework.symbols.windows import pdbconv

    class Reader(pdbconv.PdbReader):
        def consume_type(self, module, offset, length):
            layer = self.context.layers[module._layer_name]
            if int.from_bytes(layer.read(offset, 2), "little") == NESTED:
                end = layer.read(offset + 8, length - 8).index(0)
                return (NESTED, None, None), 8 + end + 1
            (leaf, name, value), consumed = super().consume_type(module, offset, length)
            if isinstance(value, list):
                value = [field for field in value if field[0] != NESTED]
            return (leaf, name, value), consumed

    table = Reader(contexts.Context(), pdb.resolve().as_uri(), database_name=pdb.name).get_json()
    # It wants every type that it has a class for; those of the registry and of the network the laboratory has not.
    source = pathlib.Path(windows.__file__).read_text()
    for name in re.findall(r'\bset_type_class\(\s*"(\w+)"', source):
        table["user_types"].setdefault(name, {"fields": {}, "kind": "struct", "size": 8})
    # A name that Microsoft's symbols use for what is called a long here.
    table["base_types"].setdefault("unsigned int", table["base_types"]["unsigned long"])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(table))


def rows(dump, folder, plugin):
    """What a plugin finds."""
    vol = "import sys; sys.argv[0] = 'vol'; from volatility3.cli import main; sys.exit(main())"
    options = ["-q", "--offline", "-s", folder / "isf", "--cache-path", folder / "cache", "-r", "json", "-f", dump, plugin]
    run = subprocess.run([sys.executable, "-c", vol, *options], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{plugin}: {run.stdout}{run.stderr}")
    return json.loads(run.stdout)


def compare(what, found, wanted):
    found, wanted = set(found), set(wanted)
    for name, side in (("volatility3", found - wanted), ("kd", wanted - found)):
        for row in sorted(side, key=str):
            print(f"only {name} has {what} {tuple(hex(v) if isinstance(v, int) else v for v in row)}")
    return found == wanted, len(wanted)


def kd_modules(said):
    """The modules that kd's `lm` listed."""
    answers = [json.loads(line) for line in said.splitlines()]
    return next(answer["data"]["modules"] for answer in answers if answer["command"].startswith("lm"))


def main(name="x64-19041:crash-in-driver", kind="5"):
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "cache").mkdir()
        make = ["cargo", "run", "-q", "-p", "kd-tests", "--bin", "make-lab", "--", folder, f"{name}:{kind}"]
        subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        stem = name.replace(":", "-")
        dump = folder / f"{stem}.dmp"
        truth = json.loads((folder / f"{stem}.json").read_text())
        (pdb,) = (folder / "symbols/ntkrnlmp.pdb").glob("*/ntkrnlmp.pdb")
        key = pdb.parent.name
        symbol_table(pdb, folder / f"isf/windows/ntkrnlmp.pdb/{key[:32]}-{int(key[32:], 16)}.json")
        ask = lambda plugin: rows(dump, folder, f"windows.{plugin}")

        # What kd says of modules; of the rest, what the laboratory knows.
        kd = ["cargo", "run", "-q", "-p", "kd", "--", "-z", dump, "-y", folder / "symbols", "--json", "-c", "lm k; q"]
        said = subprocess.run(kd, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        listed = kd_modules(said)

        mask = 0xFFFF_FFFF_FFFF  # volatility3 cuts addresses to what the processor translates
        tables = {t["id"]: t["handles"] for t in truth["facts"]["handles"]}
        results = [
            compare(
                "process",
                [(p["PID"], p["ImageFileName"], p["Offset(V)"] & mask) for p in ask("pslist")],
                [(p["id"], p["name"][:14], p["eprocess"] & mask) for p in truth["processes"]],
            ),
            compare(
                "module",
                [(m["Base"] & mask, m["Size"], m["Name"]) for m in ask("modules")],
                [(int(m["start"], 16) & mask, m["size"], m["image"]) for m in listed],
            ),
            compare(
                "thread",
                [(t["PID"], t["TID"], t["Offset"] & mask) for t in ask("threads")],
                [(t["process"], t["id"], t["ethread"] & mask) for t in truth["threads"] if t["id"]],
            ),
            compare(
                "handle",
                [(h["PID"], h["HandleValue"], h["Offset"] & mask, h["GrantedAccess"]) for h in ask("handles") if h["PID"] in tables],
                [(pid, h["handle"], h["object"] & mask, h["access"]) for pid, table in tables.items() for h in table],
            ),
        ]
    words = ["processes", "modules", "threads", "handles"]
    print("equal: " + ", ".join(f"{n} {w}" if same else f"{w} DIFFER" for (same, n), w in zip(results, words)))
    return not all(same for same, _ in results)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
