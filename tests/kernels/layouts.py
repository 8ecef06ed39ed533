#!/usr/bin/env python3
"""Writes the layout tables in layouts/ from symbols of real kernels.

    python3 layouts.py SHARED

SHARED holds symbols/symstore (PDB files) and symbols/x86-layouts. Only offsets, sizes and names are taken. A table is
a list of structures with true sizes; a field is `OFFSET NAME TYPE`, a bit field's type is `uN:BITS@FIRST`. Types:
i8…i64, u8…u64, wchar, f32, f64, void, fn, `*T`, `[N]T`, `enum NAME`, or the name of a structure; `OWNER.FIELD` is a
structure without a name. A second size behind a structure's is how much of it public symbols tell. Generations without symbols (x64-26100, arm64-22000) are made from a neighbour: structures
that moved keep only the fields whose places are known, see `OVERLAYS`.
"""

import json
import lzma
import pathlib
import re
import subprocess
import sys

PDBS = {
    "x64-7601": "339E74133576439CBCDF7E0229DA37731",
    "x64-9600": "169C65213E3E42DDBEB4E3AC66312B821",
    "x64-19041": "5278AFF86C341677D7D7835C85B7B8441",
    "x64-22000": "32C1A669D5FFEFD41091F636CFDB6E991",
}
JSONS = {"x86-2600": "xp_sp3_x86", "x86-7601": "win7_sp1_x86", "x86-19041": "win10_x86_19041"}

# What kernel commands read. Structures inside these come along.
ROOTS = """
_EPROCESS _KPROCESS _ETHREAD _KTHREAD _KAPC _KAPC_STATE _DISPATCHER_HEADER _KPCR _KPRCB _KTRAP_FRAME _CONTEXT
_KEXCEPTION_FRAME _KSWITCH_FRAME _EXCEPTION_RECORD _EXCEPTION_RECORD64 _EXCEPTION_REGISTRATION_RECORD
_MMPFN _MMPFNLIST _MMPTE _MMVAD _MMVAD_SHORT _MMVAD_LONG _SUBSECTION _CONTROL_AREA _SEGMENT _SEGMENT_OBJECT
_MAPPED_FILE_SEGMENT _SECTION _SECTION_OBJECT _MSUBSECTION _LARGE_CONTROL_AREA _MMPAGING_FILE _MMSUPPORT
_MMSUPPORT_FULL _MMWSL _MM_SESSION_SPACE _MI_SYSTEM_INFORMATION _MI_PARTITION _MMSECTION_FLAGS
_ERESOURCE _OWNER_ENTRY _KWAIT_CHAIN_ENTRY _FAST_ERESOURCE_INTERNAL _FAST_OWNER_ENTRY_INTERNAL _FAST_MUTEX _KGUARDED_MUTEX _EX_PUSH_LOCK _EX_FAST_REF
_POOL_HEADER _POOL_DESCRIPTOR _POOL_TRACKER_BIG_PAGES _POOL_TRACKER_TABLE _GENERAL_LOOKASIDE _NPAGED_LOOKASIDE_LIST
_SEGMENT_HEAP _EX_POOL_HEAP_MANAGER_STATE _EX_HEAP_POOL_NODE _HEAP_PAGE_SEGMENT _HEAP_SEG_CONTEXT
_HEAP_VS_SUBSEGMENT _HEAP_VS_CHUNK_HEADER _HEAP_VS_CHUNK_FREE_HEADER _HEAP_LFH_SUBSEGMENT _HEAP_LFH_BUCKET
_EX_HEAP_SESSION_STATE _HEAP_LFH_AFFINITY_SLOT _HEAP_LARGE_ALLOC_DATA _RTLP_HP_HEAP_GLOBALS _MI_SYSTEM_PTE_TYPE _MM_PAGED_POOL_INFO
_SECTION_OBJECT_POINTERS _SECTION_IMAGE_INFORMATION _MMPTE_SUBSECTION _MMPTE_SOFTWARE _RTL_BITMAP _RTL_BITMAP_EX
_OBJECT_HEADER _OBJECT_HEADER_NAME_INFO _OBJECT_HEADER_CREATOR_INFO _OBJECT_HEADER_QUOTA_INFO
_OBJECT_HEADER_HANDLE_INFO _OBJECT_HEADER_PROCESS_INFO _OBJECT_HEADER_AUDIT_INFO _OBJECT_TYPE _OBJECT_DIRECTORY
_OBJECT_DIRECTORY_ENTRY _OBJECT_SYMBOLIC_LINK _HANDLE_TABLE _HANDLE_TABLE_ENTRY _HANDLE_TABLE_ENTRY_INFO
_DRIVER_OBJECT _DRIVER_EXTENSION _DEVICE_OBJECT _DEVOBJ_EXTENSION _DEVICE_NODE _IRP _IO_STACK_LOCATION _FILE_OBJECT
_VPB _MDL _KTIMER _KDPC _KWAIT_BLOCK _KEVENT _KMUTANT _KSEMAPHORE _KQUEUE _KGATE _KTIMER_TABLE_ENTRY
_WORK_QUEUE_ITEM _EX_WORK_QUEUE _TEB _TEB32 _TEB64 _PEB _PEB32 _PEB64 _PEB_LDR_DATA _LDR_DATA_TABLE_ENTRY
_KLDR_DATA_TABLE_ENTRY _RTL_USER_PROCESS_PARAMETERS _NT_TIB _NT_TIB32 _NT_TIB64 _EWOW64PROCESS _WOW64_PROCESS
_TOKEN _EJOB _EPROCESS_QUOTA_BLOCK _DBGKD_GET_VERSION64 _PHYSICAL_MEMORY_DESCRIPTOR _PHYSICAL_MEMORY_RUN
_KUSER_SHARED_DATA _KNODE _KSPECIAL_REGISTERS _KPROCESSOR_STATE _SHARED_CACHE_MAP _VACB _CALLBACK_OBJECT
_CM_KEY_BODY _CM_KEY_CONTROL_BLOCK _CMHIVE _KINTERRUPT _IO_WORKITEM _KDEVICE_QUEUE _IO_TIMER _UNLOADED_DRIVERS
_KDPC_DATA _KTIMER_TABLE _ETIMER _OBJECT_ATTRIBUTES _OBJECT_CREATE_INFORMATION _DEFERRED_WRITE _SLIST_HEADER
_RTL_BALANCED_NODE _RTL_AVL_TREE _MM_AVL_TABLE _MMADDRESS_NODE _M128A _XSAVE_FORMAT _ERESOURCE_LITE _SINGLE_LIST_ENTRY
_LIST_ENTRY _UNICODE_STRING _STRING _LARGE_INTEGER _CLIENT_ID _GUID _IO_STATUS_BLOCK _KLOCK_ENTRY _ALPC_PORT
_KSTACK_COUNT _PO_DEVICE_NOTIFY _WHEA_ERROR_RECORD _LUID _SID _ACL _SID_AND_ATTRIBUTES _KPROFILE
""".split()
ENUMS = "_MI_SYSTEM_VA_TYPE _MI_ASSIGNED_REGION_TYPES _KWAIT_REASON _KTHREAD_STATE _POOL_TYPE _MMLISTS _KOBJECTS _MODE _KPROCESS_STATE _PF_FILE_ACCESS_TYPE".split()

BASIC = {
    "void": "void", "char": "i8", "signed char": "i8", "unsigned char": "u8", "bool": "u8", "wchar_t": "wchar",
    "wchar": "wchar", "short": "i16", "unsigned short": "u16", "int": "i32", "long": "i32", "unsigned long": "u32",
    "unsigned": "u32", "unsigned int": "u32", "HRESULT": "i32", "__int64": "i64", "unsigned __int64": "u64",
    "long long": "i64", "unsigned long long": "u64", "float": "f32", "double": "f64", "char16_t": "wchar",
    "__int128": "[2]u64", "<no type>": "void", "std::nullptr_t": "void",
}  # fmt: skip
SIZES = {"i8": 1, "u8": 1, "i16": 2, "u16": 2, "wchar": 2, "i32": 4, "u32": 4, "f32": 4, "i64": 8, "u64": 8, "f64": 8}


def nameless(name):
    return bool(re.match(r"^(<unnamed|<anonymous|__unnamed|__anonymous)", name))


class Pdb:
    """Types of a PDB by name, through llvm-pdbutil."""

    def __init__(self, path):
        text = subprocess.run(
            ["llvm-pdbutil-19", "dump", "-types", path], capture_output=True, text=True, errors="replace", check=False
        ).stdout
        self.records, self.by_name, self.enums = {}, {}, {}
        current = None
        for line in text.splitlines():
            if m := re.match(r"^\s+0x([0-9A-F]+) \| (LF_\w+) \[[^\]]*\](?: `(.*)`)?", line):
                current = {"kind": m[2], "name": m[3], "lines": []}
                self.records[int(m[1], 16)] = current
            elif current is not None:
                current["lines"].append(line)
        for index, record in self.records.items():
            if record["kind"] in ("LF_STRUCTURE", "LF_UNION", "LF_CLASS"):
                text = " ".join(record["lines"])
                if "forward ref" in text:
                    continue
                record["size"] = int(re.search(r"sizeof (\d+)", text)[1])
                self.by_name.setdefault(record["name"], index)
            if record["kind"] == "LF_ENUM":
                self.enums.setdefault(record["name"], index)

    def has(self, name):
        return name in self.by_name

    def enum(self, name):
        record = self.records[self.enums[name]]
        fields = int(re.search(r"field list: 0x([0-9A-F]+)", " ".join(record["lines"]))[1], 16)
        found = re.findall(r"LF_ENUMERATE \[(\S+) = (-?\d+)\]", "\n".join(self.records[fields]["lines"]))
        return [(int(value), name) for name, value in found]

    def structure(self, key):
        record = self.records[self.by_name[key] if isinstance(key, str) else key]
        m = re.search(r"field list: 0x([0-9A-F]+)", " ".join(record["lines"]))
        fields = []
        for line in self.records[int(m[1], 16)]["lines"] if m else []:
            m = re.search(r"LF_MEMBER \[name = `(.*)`, Type = 0x([0-9A-F]+).*offset = (\d+)", line)
            if m:
                fields.append((int(m[3]), m[1], self.kind(int(m[2], 16), line)))
        return "union" if record["kind"] == "LF_UNION" else "struct", record["size"], fields

    def kind(self, index, hint=""):
        """A type as (text, key of a nameless structure or None)."""
        if index < 0x1000:
            name = {
                0x03: "void", 0x10: "char", 0x20: "unsigned char", 0x68: "char", 0x69: "unsigned char", 0x70: "char",
                0x11: "short", 0x21: "unsigned short", 0x71: "wchar_t", 0x72: "short", 0x73: "unsigned short",
                0x12: "long", 0x22: "unsigned long", 0x74: "int", 0x75: "unsigned", 0x13: "__int64", 0x30: "bool",
                0x23: "unsigned __int64", 0x76: "__int64", 0x77: "unsigned __int64", 0x40: "float", 0x41: "double",
                0x08: "long", 0x7A: "wchar_t", 0x00: "void",
            }[index & 0xFF]  # fmt: skip
            return ("*" if index & 0xF00 else "") + BASIC[name], None
        record = self.records[index]
        text = " ".join(record["lines"])
        number = lambda pattern: int(re.search(pattern + r" = 0x([0-9A-F]+)", text)[1], 16)
        match record["kind"]:
            case "LF_POINTER":
                inner, key = self.kind(number("referent"))
                return ("*void" if key else "*" + inner), None
            case "LF_MODIFIER":
                return self.kind(number("referent"))
            case "LF_ARRAY":
                size = int(re.search(r"size: (\d+)", text)[1])
                inner, key = self.kind(int(re.search(r"element type: 0x([0-9A-F]+)", text)[1], 16))
                each = self.size(inner, key)
                return f"[{size // each if each else 0}]{inner}", key
            case "LF_BITFIELD":
                m = re.search(r"bit offset = (\d+), # bits = (\d+)", text)
                inner = self.kind(number("type"))[0]
                inner = inner if inner in SIZES else "u32"
                return f"{inner}:{m[2]}@{m[1]}", None
            case "LF_ENUM":
                under = self.kind(int(re.search(r"underlying type: 0x([0-9A-F]+)", text)[1], 16))[0]
                if record["name"] in ENUMS and under == "i32":
                    return "enum " + record["name"], None
                return under, None
            case "LF_PROCEDURE" | "LF_MFUNCTION":
                return "fn", None
        if nameless(record["name"]):
            return "", index
        return record["name"], None

    def size(self, text, key):
        if text.startswith("*"):
            return 8
        if text.startswith("enum "):
            return 4
        if m := re.match(r"^\[(\d+)\](.*)", text):
            return int(m[1]) * self.size(m[2], key)
        if text in SIZES:
            return SIZES[text]
        return self.structure(text if key is None else key)[1]


class Json:
    """Types of a JSON table: {structure: [size, {field: [offset, type]}]}."""

    def __init__(self, path):
        self.types = json.load(lzma.open(path))
        self.enums = {}

    def has(self, name):
        return name in self.types

    def structure(self, name):
        size, fields = self.types[name]
        fields = [(at, field, self.kind(kind)) for field, (at, kind) in fields.items()]
        several = len(fields) > 1 and all(f[0] == 0 and "@" not in f[2][0] for f in fields)
        return "union" if several else "struct", size, fields

    def kind(self, kind):
        head = kind[0]
        if head in ("pointer", "pointer64"):
            inner, key = self.kind(kind[1])
            if head == "pointer64":
                return "u64", None
            return ("*void" if key else "*" + inner), None
        if head == "array":
            inner, key = self.kind(kind[2])
            count = kind[1] if kind[1] >= 0 else -kind[1] // 4  # arrays of enumerations have their negated size in bytes
            return f"[{count}]{inner}", key
        if head == "BitField":
            base = BASIC[kind[1]["native_type"]]
            first, end = kind[1]["start_bit"], kind[1]["end_bit"]
            return f"{base}:{end - first}@{first}", None
        if head == "Enumeration":
            return BASIC[kind[1]["target"]], None
        if head in BASIC:
            return BASIC[head], None
        if nameless(head):
            return "", head
        return head if head in self.types else "void", None


def write_table(source, roots):
    """The table's text: every root that exists and every structure inside."""
    done, lines, waiting = set(), [], [r for r in roots if source.has(r)]

    def emit(label, key):
        kind, size, fields = source.structure(key)
        lines.append(f"{kind} {label} {size:#x}")
        inner = []
        for at, name, (text, nested) in fields:
            if nested is not None:
                owner = f"{label}.{name}"
                inner.append((owner, nested))
                text += owner
            else:
                base = re.sub(r"^(\[\d+\])*", "", text)
                if source.has(base) and base not in done:
                    done.add(base)
                    waiting.append(base)
            lines.append(f"  {at:#x} {name} {text}")
        for owner, nested in inner:
            emit(owner, nested)

    done.update(waiting)
    while waiting:
        name = waiting.pop(0)
        emit(name, name)
    for name in ENUMS:
        if name in source.enums:
            lines.append(f"enum {name}")
            lines += [f"  {value} {text}" for value, text in source.enum(name)]
    return lines


def overlay(lines, changes):
    """Replaces whole structures; see overlays.py for the form of `changes`."""
    blocks = []
    for line in lines:
        if line.startswith(" "):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    # What the neighbour does not tell at all is placed from nothing.
    names = {block[0].split()[1] for block in blocks}
    blocks += [[f"struct {name} 0x0"] for name, change in changes.items() if change and name not in names]
    result = []
    for block in blocks:
        kind, name, *_ = block[0].split()
        change = changes.get(name, block)
        if change is block:
            result += block
            continue
        if change is None:
            continue
        if "size" not in change:
            result += [f"{block[0]} {change['told']:#x}", *block[1:]]
            continue
        known = [(int(at, 16), field, text) for at, field, text in (line.split(None, 2) for line in block[1:])]
        types = {field: text for _, field, text in known}
        placed = {
            field: (at + distance, text)
            for start, end, distance in change.get("shift", [])
            for at, field, text in known
            if start <= at < end
        }
        for field, value in change.get("put", {}).items():
            placed[field] = (value, types[field]) if isinstance(value, int) else value
        placed = [(at, field, text) for field, (at, text) in ((f, p) for f, p in placed.items() if p)]
        told = f" {change['told']:#x}" if "told" in change else ""
        result.append(f"{kind} {name} {change['size']:#x}{told}")
        result += [f"  {at:#x} {field} {text}" for at, field, text in sorted(placed, key=lambda p: p[0])]
    return result


def main(shared):
    from overlays import OVERLAYS

    here = pathlib.Path(__file__).parent / "layouts"
    tables = {}
    for name, key in PDBS.items():
        tables[name] = write_table(Pdb(shared / "symbols/symstore/ntkrnlmp.pdb" / key / "ntkrnlmp.pdb"), ROOTS)
    for name, file in JSONS.items():
        tables[name] = write_table(Json(shared / "symbols/x86-layouts" / f"{file}.json.xz"), ROOTS)
    for name, (neighbour, changes) in OVERLAYS.items():
        tables[name] = overlay(tables[neighbour], changes)
    for name, lines in tables.items():
        (here / f"{name}.txt").write_text("\n".join(lines) + "\n")
        print(name, sum(not line.startswith(" ") for line in lines), "structures", len(lines), "lines")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
