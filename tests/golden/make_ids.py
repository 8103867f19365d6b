"""Writes ids.json: `python tests/golden/make_ids.py`.

Canonical strings are written out by hand, those of many floats made from their bits with integers
alone, and hashes come from python-xxhash alone, so that this file can judge persia_core.ids, the Spark
expressions and the C++ code.
"""

import json
import struct
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
    ("string", "  a  ", "  a  "),
    ("string", "a ", "a "),
    ("string", "\u00a0", "\u00a0"),
    ("string", "\u200b", "\u200b"),
    ("string", "\ufeffa", "\ufeffa"),
    ("string", "\n", "\n"),
    ("string", "\r\n", "\r\n"),
    ("string", "\u2028", "\u2028"),
    ("string", "\u007f", "\u007f"),
    ("string", "\u0080", "\u0080"),
    ("string", "\u07ff", "\u07ff"),
    ("string", "\u0800", "\u0800"),
    ("string", "\uffff", "\uffff"),
    ("string", "\U00010000", "\U00010000"),
    ("string", "\u0000\u0000", "\u0000\u0000"),
    ("string", "\u0000a", "\u0000a"),
    ("string", "a\u0000", "a\u0000"),
    ("string", "\\N", "\\N"),
    ("string", "NULL", "NULL"),
    ("string", "None", "None"),
    ("string", "none", "none"),
    ("string", "nan", "nan"),
    ("string", "-nan", "-nan"),
    ("string", "Infinity", "Infinity"),
    ("string", "true", "true"),
    ("string", "True", "True"),
    ("string", "-", "-"),
    ("string", "-1", "-1"),
    ("string", "+1", "+1"),
    ("string", "1e5", "1e5"),
    ("string", "0x1p-1", "0x1p-1"),
    ("string", "68fd1e64", "68fd1e64"),
    ("string", '"quoted"', '"quoted"'),
    ("string", "a,b|c;d", "a,b|c;d"),
    ("string", "a/b/c", "a/b/c"),
    ("string", "Straße", "Straße"),
    ("string", "STRASSE", "STRASSE"),
    ("string", "İstanbul", "İstanbul"),
    ("string", "ﬁ", "ﬁ"),
    ("string", "Å", "Å"),
    ("string", "\u212b", "\u212b"),
    ("string", "\u0041\u030a", "\u0041\u030a"),
    ("string", "عربى", "عربى"),
    ("string", "עברית", "עברית"),
    ("string", "हिन्दी", "हिन्दी"),
    ("string", "ไทย", "ไทย"),
    ("string", "🇨🇭", "🇨🇭"),
    ("string", "é" * 5000, "é" * 5000),
    ("string", "😀" * 16, "😀" * 16),
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
    ("int64", 9007199254740993, "9007199254740993"),
    ("int64", -9007199254740993, "-9007199254740993"),
    ("int64", 1000000000000000000, "1000000000000000000"),
    ("int64", 10000000, "10000000"),
    ("int64", 2147483648, "2147483648"),
    ("int64", -2147483649, "-2147483649"),
    ("int32", None, None),
    ("int32", 0, "0"),
    ("int32", 196, "196"),
    ("int32", 2147483647, "2147483647"),
    ("int32", -2147483648, "-2147483648"),
    ("int16", 32767, "32767"),
    ("int16", -32768, "-32768"),
    ("int8", 127, "127"),
    ("int8", -128, "-128"),
    ("uint64", None, None),
    ("uint64", 0, "0"),
    ("uint64", 196, "196"),
    ("uint64", 9223372036854775808, "9223372036854775808"),
    ("uint64", 18446744073709551615, "18446744073709551615"),
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

# Written as Java and Python would print them differently, or at an edge of the type.
DOUBLES = """
    1e-5 1e-4 0.001 0.0001220703125 1e6 1e7 12345678.9 1e15 1e16 1e17 1e21 1e22 123456789012345680
    9007199254740991 9007199254740994 -9007199254740994 4503599627370495.5 0.3 0.30000000000000004 2.675
    1.1 100.25 -100.25 3.141592653589793 2.718281828459045 2e-323 4.9e-324 2.2250738585072011e-308
    2.2250738585072014e-308 -2.2250738585072014e-308 1.7976931348623157e308 -1.7976931348623157e308
    9.999999999999999e22 2e-3 5e-3 1e-323 9223372036854775807 9223372036854775808 -9223372036854775808
    18446744073709551616 1e300 1e-300 0.5000000000000001 0.49999999999999994 65504 65535.99999999999
    4294967296 2147483648.5
"""
FLOATS = """
    1e-5 0.3 1.1 16777216 16777217 33554433 1e7 1e10 1e21 3.4028234663852886e38 -3.4028234663852886e38
    1.1754943508222875e-38 1.401298464324817e-45 5.877471754111438e-39 0.5 -2.5 100.25 3.1415927 0 7
"""

# A pair of canonical strings (None: missing), and how it is joined.
PAIRS: list[tuple[str | None, str | None, str]] = [
    (None, None, "--"),
    ("a", None, "1:a-"),
    (None, "a", "-1:a"),
    ("-", "-", "1:-1:-"),
    ("a", "b", "1:a1:b"),
    ("ab", "", "2:ab0:"),
    ("a", "1:b", "1:a3:1:b"),
    ("a1:b", "c", "4:a1:b1:c"),
    ("1:a", "b", "3:1:a1:b"),
    ("ü", "18", "2:ü2:18"),
    ("推荐", "😀", "6:推荐4:😀"),
    ("\u0000", "\u0000", "1:\u00001:\u0000"),
    ("0123456789", "0", "10:01234567891:0"),
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


def from_bits(number: float) -> str:
    """The canonical string of a finite float64, from its sign, exponent and mantissa."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    sign, biased, mantissa = bits >> 63, bits >> 52 & 0x7FF, bits & (1 << 52) - 1
    lead, exponent = (1, biased - 1023) if biased else (0, -1022)
    minus = "-" if sign else ""
    # The value is significand * 2**(exponent - 52): a whole number if no bit stands below the point.
    significand = lead << 52 | mantissa
    if significand == 0:
        return "0"
    below = 52 - exponent
    if below <= 0:
        if significand << -below <= 1 << 53:
            return f"{minus}{significand << -below}"
    elif significand % (1 << below) == 0:
        return f"{minus}{significand >> below}"
    digits = f"{mantissa:013x}".rstrip("0")
    return f"{minus}0x{lead}{'.' * bool(digits)}{digits}p{exponent}"


def floats() -> list[tuple[str, object, str | None]]:
    singles = [struct.unpack(">f", struct.pack(">f", float(text)))[0] for text in FLOATS.split()]
    return [("float64", float(text).hex(), from_bits(float(text))) for text in DOUBLES.split()] + [
        ("float32", number.hex(), from_bits(number)) for number in singles
    ]


def main() -> None:
    vectors = [vector(*value, SCHEMES[0]) for value in [*VALUES, *floats()]]
    vectors += [vector("cross", [first, second], joined, SCHEMES[0]) for first, second, joined in PAIRS]
    vectors += [
        vector("string", text, text or None, scheme)
        for scheme in SCHEMES[1:]
        for text in ("a", "", "推荐系统")
    ]
    path = Path(__file__).with_name("ids.json")
    path.write_text(json.dumps(vectors, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
