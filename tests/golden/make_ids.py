"""Writes ids.json: `python tests/golden/make_ids.py`.

Canonical strings are written out by hand, and hashes come from python-xxhash alone, so that this file
can judge persia_core.ids, the Spark expressions and the C++ code.
"""

import json
from pathlib import Path

import xxhash

# (type, value as JSON can hold it, canonical string or None for missing). Floats stand as float.hex.
VALUES: list[tuple[str, object, str | None]] = [
    ("string", None, None),
    ("string", "", None),
    ("string", " ", " "),
    ("string", "a", "a"),
    ("string", "A", "A"),
    ("string", "0", "0"),
    ("string", "-0.0", "-0.0"),
    ("string", "007", "007"),
    ("string", "1.0", "1.0"),
    ("string", "NaN", "NaN"),
    ("string", "null", "null"),
    ("string", "tab\tand\nnewline", "tab\tand\nnewline"),
    ("string", "\u0000", "\u0000"),
    ("string", "a\u0000b", "a\u0000b"),
    ("string", "é", "é"),
    ("string", "e\u0301", "e\u0301"),
    ("string", "ß€", "ß€"),
    ("string", "推荐系统", "推荐系统"),
    ("string", "日本語のテキスト", "日本語のテキスト"),
    ("string", "한국어", "한국어"),
    ("string", "😀👩‍👩‍👧", "😀👩‍👩‍👧"),
    ("string", "\U0010ffff", "\U0010ffff"),
    *(
        ("string", text, text)
        for n in (3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100)
        for text in ["q" * n]
    ),
    ("string", "0123456789" * 1000, "0123456789" * 1000),
    ("bool", True, "true"),
    ("bool", False, "false"),
    ("int64", None, None),
    ("int64", 0, "0"),
    ("int64", 1, "1"),
    ("int64", -1, "-1"),
    ("int64", 196, "196"),
    ("int64", 2147483647, "2147483647"),
    ("int64", -2147483648, "-2147483648"),
    ("int64", 9223372036854775807, "9223372036854775807"),
    ("int64", -9223372036854775808, "-9223372036854775808"),
    ("float64", None, None),
    ("float64", "nan", None),
    ("float64", "0x0.0p+0", "0"),
    ("float64", "-0x0.0p+0", "0"),
    ("float64", "0x1.8p+1", "3"),  # 3.0
    ("float64", "-0x1.8p+1", "-3"),
    ("float64", "0x1.0p-1", "0x1p-1"),  # 0.5
    ("float64", "-0x1.8p+0", "-0x1.8p0"),  # -1.5
    ("float64", "0x1.999999999999ap-4", "0x1.999999999999ap-4"),  # 0.1
    ("float64", "0x1.0624dd2f1a9fcp-9", "0x1.0624dd2f1a9fcp-9"),  # 0.002: "0.0020" in older Java
    ("float64", "0x1.2a05f2p+33", "10000000000"),  # 1e10: "1.0E10" in Java, "10000000000.0" in Python
    ("float64", "0x1.0p+53", "9007199254740992"),
    ("float64", "-0x1.0p+53", "-9007199254740992"),
    ("float64", "0x1.0000000000001p+53", "0x1.0000000000001p53"),
    ("float64", "0x1.52d02c7e14af6p+76", "0x1.52d02c7e14af6p76"),  # 1e23
    ("float64", "0x1.fffffffffffffp+1023", "0x1.fffffffffffffp1023"),
    ("float64", "0x1.0p-1022", "0x1p-1022"),
    ("float64", "0x0.0000000000001p-1022", "0x0.0000000000001p-1022"),
    ("float64", "inf", "inf"),
    ("float64", "-inf", "-inf"),
    ("float32", "nan", None),
    ("float32", "-0x0.0p+0", "0"),
    ("float32", "0x1.4p+3", "10"),
    ("float32", "0x1.99999ap-4", "0x1.99999ap-4"),  # 0.1f
    ("float32", "0x1.fffffep+127", "0x1.fffffep127"),
]

# (prefix, prefix_bits, salt): the demo's, the smallest, the largest, and a salt with no ASCII.
SCHEMES = [(1, 8, "demo/user/"), (255, 8, "demo/item/"), (1, 1, ""), (65535, 16, "盐/table/")]


def vector(kind: str, value: object, text: str | None, scheme: tuple[int, int, str]) -> dict[str, object]:
    prefix, bits, salt = scheme
    hashed = xxhash.xxh64_intdigest((salt + ("\0" if text is None else text)).encode(), seed=42)
    number = prefix * 2 ** (64 - bits) + hashed // 2**bits
    return {
        "type": kind,
        "value": value,
        "canonical": text,
        "prefix": prefix,
        "prefix_bits": bits,
        "salt": salt,
        "id": f"{number:016x}",
    }


def main() -> None:
    vectors = [vector(*value, SCHEMES[0]) for value in VALUES]
    vectors += [
        vector("string", text, text or None, scheme)
        for scheme in SCHEMES[1:]
        for text in ("a", "", "推荐系统")
    ]
    path = Path(__file__).with_name("ids.json")
    path.write_text(json.dumps(vectors, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
