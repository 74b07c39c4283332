#!/usr/bin/env python3
"""Compares the program's GPT-2 tokenizer with tiktoken 0.14.0, token by token.

    python3 -m venv /tmp/check && /tmp/check/bin/pip install tiktoken==0.14.0 numpy regex xxhash
    /tmp/check/bin/python scripts/check_tokenizer.py [--program build/powertrain] [TEXT...]

Reads the vocabulary in data/gpt2, so no network is needed after the install. Without TEXT: the shipped Shakespeare.
Always: a text with every code point of Unicode in several contexts. --write_fixture FILE makes the cases of
tests/data/tokenizer_cases.jsonl.
"""
import argparse
import base64
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import regex
import tiktoken
import tiktoken.load
import tiktoken_ext.openai_public
import xxhash

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def make_encoding():
    assert tiktoken.__version__ == "0.14.0", tiktoken.__version__
    tiktoken.load.read_file_cached = lambda path, *_: pathlib.Path(path).read_bytes()
    ranks = tiktoken.load.data_gym_to_mergeable_bpe_ranks(str(ROOT / "data/gpt2/vocab.bpe"),
                                                          str(ROOT / "data/gpt2/encoder.json"))
    return tiktoken.Encoding("gpt2", explicit_n_vocab=50257, pat_str=tiktoken_ext.openai_public.r50k_pat_str,
                             mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})


def every_code_point():
    """Each code point but surrogates, between letters, numbers, spaces and symbols. tokenizer_test.cpp makes the same."""
    parts = []
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF:
            continue
        c = chr(code)
        parts.append(f"a{c}b1{c}2 {c} !{c}{c}?\n")
    return "".join(parts)


def encode_with_invalid(encoding, data):
    """As documented: each invalid byte is a symbol, no letter, number or space; here a lone surrogate stands for it."""
    ids = []
    for word in regex.findall(PATTERN, data.decode("utf-8", "surrogateescape")):
        ids += encoding._encode_single_piece(word.encode("utf-8", "surrogateescape"))
    return ids


def fixture_cases():
    rng = random.Random(2357)
    spaces = [chr(c) for c in (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
                               0x202F, 0x205F, 0x3000)]
    yield "empty", ""
    yield "marker_is_text", "a<|endoftext|>b\n<|endoftext|>\n"
    yield "contractions", "I'm he's we're they've you'll he'd don't I'M 'S 'sx '' 'l 'r 'v ' 's'' rock'n'roll 'llama"
    yield "numbers", "0 12 345 6789 1.5e-10 ²³ ½ Ⅷ ٣٤ 四 १२३ 1a2b3c 10,000"
    yield "code", "int main(void) {\n\tfor (;;)\n\t\treturn -1;\r\n}\n\n\n    x  =  y ;  \n"
    yield "long_words", "a" * 63 + " " + "b" * 64 + " " + "ab" * 50 + " " + "!" * 200 + " " + "0123456789" * 20
    yield "spaces_end", "end   "
    yield "spaces_between", " ".join(f"x{s}y{s}{s}z {s}{s} 1{s}!{s}" for s in spaces)
    yield "spaces_only", "".join(spaces)
    yield "zero_width", "a\u200bb\u200cc\u200dd\u2060e\ufefff\u180eg\u00adh"
    yield "combining", "e\u0301 n\u0303o \u0e01\u0e33 \u1100\u1161\u11a8 \u0928\u092e\u0938\u094d\u0924\u0947"
    yield "emoji", "👩‍👩‍👧‍👦 🇩🇪 👍🏽 ☃️ 1️⃣"
    yield "languages", ("Ελληνικά русский עברית العربية हिन्दी ไทย 日本語のテキスト 中文。한국어 Tiếng Việt ქართული "
                        "አማርኛ ᏣᎳᎩ")
    yield "unicode_16", "\u1c89\u1c8a\ua7cb\ua7cc\ua7cd\ua7da\ua7db\ua7dc \U000105c0\U00010d40\U00010d4a \U00016d70"
    for plane in range(17):
        codes = [c for c in rng.sample(range(plane << 16, (plane + 1) << 16), 90) if not 0xD800 <= c <= 0xDFFF]
        yield f"plane_{plane}", "".join(chr(c) + rng.choice(["", " ", "a", "1", "'s", "\n"]) for c in codes)
    for seed in range(20):
        alphabet = list("abcdeXYZ019 \n\t'.,!-") + spaces + list("éüßдж日本ñ한٣²🙂\u0301")
        yield f"random_{seed}", "".join(rng.choices(alphabet, k=120))


def invalid_cases():
    yield "lone_bytes", b"a\x80b\xffc\xfe \xc3 d\xc3"
    yield "truncated_sequences", b"x\xe2\x82y \xf0\x9f\x99 z\xf0\x9f"
    yield "overlong", b"\xc0\x80 \xc1\xbf \xe0\x80\x80 \xf0\x80\x80\x80 a"
    yield "surrogates", b"\xed\xa0\x80\xed\xb0\x80 a"
    yield "beyond", b"\xf4\x90\x80\x80 \xf5\x80\x80\x80 \xf8\x88\x80\x80\x80"
    yield "beside_valid", "é".encode() + b"\xe9 \xe9" + "é".encode() + b"'s\xe9's 1\xe92"
    yield "all_bytes", bytes(range(256)) * 2
    rng = random.Random(7)
    for seed in range(10):
        pieces = [b"\x80", b"\xc3", b"\xe2\x82", b"\xff", b"a", b"Z", b" ", b"1", b"\n", b"'s", "é".encode(), b"!"]
        yield f"invalid_random_{seed}", b"".join(rng.choices(pieces, k=100))


def write_fixture(encoding, path):
    with open(path, "w", encoding="ascii") as out:
        def put(name, data, ids):
            text = base64.b64encode(data).decode()
            out.write(json.dumps({"name": name, "base64": text, "ids": ids}, separators=(",", ":")) + "\n")
        for name, text in fixture_cases():
            put(name, text.encode(), encoding.encode_ordinary(text))
        for name, data in invalid_cases():
            put(name, data, encode_with_invalid(encoding, data))
        ids = np.array(encoding.encode_ordinary(every_code_point()), dtype=np.uint16)
        digest = xxhash.xxh3_128_hexdigest(ids.tobytes())
        out.write(json.dumps({"name": "every_code_point", "tokens": len(ids), "xxh3_128": digest}) + "\n")


def program_tokens(program, data):
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder, "text.txt")
        text.write_bytes(data)
        subprocess.run([program, "data", "tokenize", str(text), "--out", folder, "--val_fraction", "0", "--quiet"],
                       check=True)
        ids = np.fromfile(pathlib.Path(folder, "train.bin"), dtype=np.uint16)
        decoded = subprocess.run([program, "data", "tokenize", "--decode", str(pathlib.Path(folder, "train.bin"))],
                                 check=True, capture_output=True).stdout
    assert ids[-1] == 50256
    return ids[:-1], decoded


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", default=[str(ROOT / "data/tinyshakespeare.txt")])
    parser.add_argument("--program", default=str(ROOT / "build/powertrain"))
    parser.add_argument("--write_fixture")
    options = parser.parse_args()
    encoding = make_encoding()
    if options.write_fixture:
        write_fixture(encoding, options.write_fixture)
        return 0
    texts = [(path, pathlib.Path(path).read_bytes()) for path in options.texts]
    cases = [(name, data, encoding.encode_ordinary(data.decode())) for name, data in
             texts + [("every code point", every_code_point().encode())]]
    cases += [(name, data, encode_with_invalid(encoding, data)) for name, data in invalid_cases()]
    failures = 0
    for name, data, expected in cases:
        ids, decoded = program_tokens(options.program, data)
        same = np.array_equal(ids, np.array(expected, dtype=np.uint16)) and decoded == data
        failures += not same
        print(f"{name}: {len(data)} bytes, {len(expected)} tokens, {'identical' if same else 'DIFFERENT'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
