#!/usr/bin/env python3
"""Writes a C header from a layout table: every structure with every field at its true place.

    python3 headers.py layouts/x64-19041.txt > nt.h

Fields that overlap become unions, gaps become bit fields without names, which leave no trace in debug information.
"""

import re
import sys

SIZES = {"i8": 1, "u8": 1, "i16": 2, "u16": 2, "wchar": 2, "i32": 4, "u32": 4, "f32": 4, "i64": 8, "u64": 8, "f64": 8}
NAMES = {
    "i8": "char", "u8": "unsigned char", "i16": "short", "u16": "unsigned short", "wchar": "wchar_t", "i32": "long",
    "u32": "unsigned long", "f32": "float", "i64": "long long", "u64": "unsigned long long", "f64": "double",
    "void": "void",
}  # fmt: skip


class Table:
    def __init__(self, path):
        self.types, self.enums, told = {}, {}, []
        self.pointer = 4 if "x86" in path.rsplit("/", 1)[-1] else 8
        for line in open(path):
            words = line.split()
            if not line.startswith(" "):
                self.fields = []
                if words[0] == "enum":
                    self.enums[words[1]] = self.fields
                else:
                    self.types[words[1]] = (words[0], int(words[-1], 16), self.fields)
                    told += [words[1]] if len(words) > 3 else []
            elif words[0].startswith("0x"):
                self.fields.append((int(words[0], 16), words[1], " ".join(words[2:])))
            else:
                self.fields.append(words)
        # What the public symbols do not tell.
        self.types = {name: t for name, t in self.types.items() if t[1] or name not in told}
        for _, size, fields in (self.types[name] for name in told if name in self.types):
            fields[:] = [f for f in fields if f[0] + self.size(f[2]) <= size or f[0] < size and not self.size(f[2])]

    def size(self, text):
        if text.startswith("*") or text == "fn":
            return self.pointer
        if text.startswith("enum "):
            return 4
        if m := re.match(r"^\[(\d+)\](.*)", text):
            return int(m[1]) * self.size(m[2])
        return SIZES[text.split(":")[0]] if text.split(":")[0] in SIZES else self.types[text][1]

    def declare(self, name, text, depth):
        """A declaration of `name`, without semicolon."""
        if m := re.match(r"^\[(\d+)\](.*)", text):
            return self.declare(f"{name}[{m[1]}]", m[2], depth)
        if text.startswith("*"):
            inner = text[1:]
            if inner.startswith("["):
                inner = "void"
            return self.declare("*" + (f"({name})" if "[" in name and "(" in name else name), inner, depth)
        if text == "fn":
            return f"fn_t {name}"
        if text in NAMES:
            return f"{NAMES[text]} {name}"
        if text.startswith("enum "):
            return f"{text} {name}"
        if "." in text:
            kind, size, fields = self.types[text]
            body = "\n".join(self.body(kind, size, fields, depth + 1))
            return f"{kind} {{\n{body}\n{'  ' * depth}}} {name}"
        kind = self.types[text][0] if text in self.types else "struct"
        return f"{kind} {text} {name}"

    def body(self, kind, size, fields, depth):
        """The members, between the braces."""
        if kind == "union" and any(at for at, _, _ in fields):
            space = "  " * depth
            return [space + "struct {", *self.body("struct", size, fields, depth + 1), space + "};"]
        # Units: a field, or the bit fields that share a place.
        units, seen = [], set()
        for at, name, text in fields:
            if name in seen or self.size(text) == 0:
                continue
            seen.add(name)
            if m := re.match(r"^(\w+):(\d+)@(\d+)$", text):
                bits = (int(m[3]), int(m[2]), name)
                for unit in reversed(units):
                    if unit[0] == at and unit[2] == m[1] and isinstance(unit[3], list) and unit[3][-1][0] + unit[3][-1][1] <= bits[0]:
                        unit[3].append(bits)
                        break
                else:
                    units.append((at, SIZES[m[1]], m[1], [bits]))
            else:
                units.append((at, self.size(text), text, name))
        units.sort(key=lambda u: u[0])
        if kind == "union" and len(units) == 1 and not isinstance(units[0][3], str):
            # Bit fields of a union would all begin at its first bit.
            space = "  " * depth
            return [space + "struct {", *self.lay(units, 0, size, depth + 1), space + "};"]
        return self.lay(units, 0, size, depth)

    def lay(self, units, start, end, depth):
        lines, at = [], start
        while units:
            limit = units[0][0] + units[0][1]
            count = 1
            while count < len(units) and units[count][0] < limit:
                limit = max(limit, units[count][0] + units[count][1])
                count += 1
            cluster, units = units[:count], units[count:]
            lines += self.pad(cluster[0][0] - at, depth)
            if count == 1:
                lines += self.unit(cluster[0], depth)
            else:
                lines += self.union(cluster, limit, depth)
            at = limit
        return lines + self.pad(end - at, depth)

    def union(self, cluster, limit, depth):
        start, alternatives = cluster[0][0], []
        for unit in cluster:
            for alternative in alternatives:
                if alternative[-1][0] + alternative[-1][1] <= unit[0]:
                    alternative.append(unit)
                    break
            else:
                alternatives.append([unit])
        space = "  " * depth
        lines = [space + "union {"]
        for alternative in alternatives:
            if len(alternative) == 1 and alternative[0][0] == start and isinstance(alternative[0][3], str):
                lines += self.unit(alternative[0], depth + 1)
            else:
                last = alternative[-1][0] + alternative[-1][1]
                lines += [space + "  struct {", *self.lay(alternative, start, last, depth + 2), space + "  };"]
        return [*lines, space + "};"]

    def unit(self, unit, depth):
        _, size, text, name = unit
        space = "  " * depth
        if isinstance(name, str):
            return [f"{space}{self.declare(name, text, depth)};"]
        lines, at = [], 0
        for first, width, field in name:
            if first > at:
                lines.append(f"{space}{NAMES[text]} :{first - at};")
            lines.append(f"{space}{NAMES[text]} {field} :{width};")
            at = first + width
        if at < size * 8:
            lines.append(f"{space}{NAMES[text]} :{size * 8 - at};")
        return lines

    def pad(self, size, depth):
        assert size >= 0
        space = "  " * depth
        return [space + "unsigned long long :64;"] * (size // 8) + [space + "unsigned char :8;"] * (size % 8)

    def header(self):
        order, state = [], set()

        def visit(name):
            if name in state:
                return
            state.add(name)
            for _, _, text in self.types[name][2]:
                inner = re.sub(r"^(\[\d+\])*", "", text)
                if inner in self.types:
                    visit(inner)
            if "." not in name:
                order.append(name)

        for name in self.types:
            visit(name)
        lines = ["typedef void (*fn_t)(void);", "typedef __WCHAR_TYPE__ wchar_t;", "#pragma pack(push, 1)"]
        for name, values in self.enums.items():
            lines += [f"enum {name} {{", *(f"  {text} = {value}," for value, text in values), "};"]
        lines += [f"{kind} {name};" for name, (kind, _, _) in self.types.items() if "." not in name]
        for name in order:
            kind, size, fields = self.types[name]
            if not fields:
                continue
            lines += [f"{kind} {name} {{", *self.body(kind, size, fields, 1), "};"]
            lines.append(f"_Static_assert(sizeof({kind} {name}) == {size:#x}, \"{name}\");")
            for at, field, text in fields:
                if ":" not in text and self.size(text):
                    lines.append(f"_Static_assert(__builtin_offsetof({kind} {name}, {field}) == {at:#x}, \"{name}.{field}\");")
        lines.append("#pragma pack(pop)")
        return lines


if __name__ == "__main__":
    print("\n".join(Table(sys.argv[1]).header()))
