#!/usr/bin/env python3
"""Writes src/data/unicode_ranges.inc: the letters, numbers and whitespace of Unicode 16.0 as ranges.

    pip install unicodedata2==16.0.0
    python3 scripts/make_unicode_table.py > src/data/unicode_ranges.inc

The table is committed, so the build needs neither Python nor this package. \\p{L} and \\p{N} are general categories.
\\s is the property White_Space, which no Python module exposes; it is fixed (25 characters since Unicode 6.3).
"""
import sys

import unicodedata2

WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
               0x3000}


def char_class(code_point):
    if code_point in WHITE_SPACE:
        return "kSpace"
    category = unicodedata2.category(chr(code_point))
    return {"L": "kLetter", "N": "kNumber"}.get(category[0])


def main():
    assert unicodedata2.unidata_version == "16.0.0", unicodedata2.unidata_version
    ranges = []
    for code_point in range(sys.maxunicode + 1):
        kind = char_class(code_point)
        if kind is None:
            continue
        if ranges and ranges[-1][1] == code_point - 1 and ranges[-1][2] == kind:
            ranges[-1][1] = code_point
        else:
            ranges.append([code_point, code_point, kind])
    print("// Made by scripts/make_unicode_table.py from Unicode 16.0.0: first, last, class. Do not edit.")
    line = ""
    for first, last, kind in ranges:
        item = f"{{0x{first:X}, 0x{last:X}, {kind}}},"
        if len(line) + len(item) + 1 > 118:
            print(line)
            line = ""
        line += (" " if line else "") + item
    print(line)


if __name__ == "__main__":
    main()
