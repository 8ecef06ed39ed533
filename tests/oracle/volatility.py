#!/usr/bin/env python3
"""Makes a laboratory dump, reads it with volatility3 and with kd, and compares what both find with what is true.

    python3 -m venv v && v/bin/pip install volatility3
    v/bin/python tests/oracle/volatility.py [GENERATION:STORY] [KIND]

Processes, modules, threads and handles of volatility3's plugins pslist, modules, threads and handles, with a symbol table
that its own pdbconv makes from the laboratory's PDB, are held against what kd answers to `!process 0 4`, `lm k` and
`!handle 0 1 0`, and both against the laboratory's truth. KIND is 5 (the default) or 1: volatility3 reads no others.
x64 only: it knows the layout of crash dumps of arm64 not, and asks for more of 32-bit systems than the laboratory has.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NESTED = 0x1510  # LF_NESTTYPE: names a type that is declared in another; pdbconv does not know it
POINTERS = 512  # in a page
PLUGIN = "--plugin"  # this program as volatility3's


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


def volatility(arguments):
    """volatility3's own program, with one fault put right: of a handle table of three levels it counts a middle page as
    one page of handles, so handles behind the first middle page get too small a number."""
    from volatility3.cli import main
    from volatility3.plugins.windows.handles import Handles

    counted = Handles._make_handle_array.__func__

    def put_right(cls, context, kernel, offset, level, depth=0):
        return counted(cls, context, kernel, offset, level, depth * POINTERS if level == 1 else depth)

    Handles._make_handle_array = classmethod(put_right)
    sys.argv = ["vol", *arguments]
    return main()


def rows(dump, folder, plugin):
    """What a plugin finds."""
    options = ["-q", "--offline", "-s", folder / "isf", "--cache-path", folder / "cache", "-r", "json", "-f", dump, plugin]
    run = subprocess.run([sys.executable, __file__, PLUGIN, *options], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{plugin}: {run.stdout}{run.stderr}")
    return json.loads(run.stdout)


def number(value):
    """A number as kd writes it: what reads best in hex is text."""
    return int(value, 16) if isinstance(value, str) else value


def address(value):
    """volatility3 cuts addresses to what the processor translates."""
    return number(value) & 0xFFFF_FFFF_FFFF


def asked_kd(dump, symbols):
    """Rows as kd has them."""
    commands = {"processes": "!process 0 4", "modules": "lm k", "tables": "!handle 0 1 0"}
    build = ["cargo", "build", "-q", "-p", "kd", "-p", "kdext-process"]
    subprocess.run(build, cwd=ROOT, check=True)
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    line = "; ".join([*commands.values(), "q"])
    run = [folder / "kd", "-z", dump, "-y", symbols, "--json", "-c", line]
    said = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    data = {}
    for answer in map(json.loads, said.splitlines()):
        for name, command in commands.items():
            if answer["command"] == command:
                data[name] = answer["data"][name]
    processes = data["processes"]
    return {
        "processes": [(number(p["id"]), p["image"], address(p["address"])) for p in processes],
        "modules": [(address(m["start"]), m["size"], m["image"]) for m in data["modules"]],
        "threads": [
            (number(t["process_id"]), number(t["id"]), address(t["address"])) for p in processes for t in p["threads"]
        ],
        "handles": [
            (number(t["process"]["id"]), number(h["handle"]), address(h["object"]), number(h["access"]))
            for t in data["tables"]
            for h in t.get("handles", [])
        ],
    }


def asked_volatility(dump, folder):
    """Rows as volatility3 has them."""
    ask = lambda plugin: rows(dump, folder, f"windows.{plugin}")
    return {
        "processes": [(p["PID"], p["ImageFileName"], address(p["Offset(V)"])) for p in ask("pslist")],
        "modules": [(address(m["Base"]), m["Size"], m["Name"]) for m in ask("modules")],
        "threads": [(t["PID"], t["TID"], address(t["Offset"])) for t in ask("threads")],
        "handles": [(h["PID"], h["HandleValue"], address(h["Offset"]), h["GrantedAccess"]) for h in ask("handles")],
    }


def known(truth):
    """Rows as the laboratory laid them. Its idle process is in no list."""
    tables = truth["facts"]["handles"]
    return {
        "processes": [(p["id"], p["name"][:14], address(p["eprocess"])) for p in truth["processes"]],
        "modules": [(address(m["base"]), m["size"], m["name"]) for m in truth["modules"]],
        "threads": [(t["process"], t["id"], address(t["ethread"])) for t in truth["threads"] if t["id"]],
        "handles": [(t["id"], h["handle"], address(h["object"]), h["access"]) for t in tables for h in t["handles"]],
    }


def compare(what, answers):
    """Prints a line of the table and every row that somebody has not."""
    everything = set().union(*answers.values())
    missing = {name: everything - set(found) for name, found in answers.items()}
    counts = "".join(f"{len(found):>13}" for found in answers.values())
    print(f"{what:10}{counts}{sum(map(len, missing.values())):>13}")
    for name, found in missing.items():
        for row in sorted(found, key=str):
            print(f"    {name} has not {tuple(hex(v) if isinstance(v, int) else v for v in row)}")
    return len(everything), not any(missing.values())


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
        sources = {
            "volatility3": asked_volatility(dump, folder),
            "kd": asked_kd(dump, folder / "symbols"),
            "laboratory": known(truth),
        }
    print(f"{name}".ljust(10) + "".join(f"{source:>13}" for source in sources) + f"{'differences':>13}")
    results = {what: compare(what, {s: found[what] for s, found in sources.items()}) for what in sources["kd"]}
    print("equal: " + ", ".join(f"{n} {what}" if same else f"{what} DIFFER" for what, (n, same) in results.items()))
    return not all(same for _, same in results.values())


if __name__ == "__main__":
    sys.exit(volatility(sys.argv[2:]) if sys.argv[1:2] == [PLUGIN] else main(*sys.argv[1:]))
