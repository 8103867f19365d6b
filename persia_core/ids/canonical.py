"""The canonical string of a value: equal values have equal strings, in every language.

The rules are those of docs/formats/ids.md; `spark_jobs/values.py` states them as Spark expressions.
"""

import math
import re
from decimal import Decimal

import numpy as np

# Above this magnitude neighbouring integers share a float64, so the digits would pretend a precision.
_EXACT_INTEGERS = 2.0**53
_TRAILING_ZEROS = re.compile(r"\.?0*p")


def canonical(value: object) -> str | None:
    """The canonical string of one raw value; None if the value counts as missing.

    Takes None, str, bool, int, float, Decimal with no fraction, and NumPy's scalars of these.
    Missing are None, the empty string and NaN. Raises TypeError for any other type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return str(int(value))
    raise TypeError(f"a value of type {type(value).__name__} has no canonical string")


def cross(first: str | None, second: str | None) -> str:
    """The canonical string of a pair of canonical strings; None is a missing member.

    A member is its length in UTF-8 bytes, a colon and itself, or `-` if it is missing: no two pairs have
    one string.
    """
    return "".join("-" if text is None else f"{len(text.encode())}:{text}" for text in (first, second))


def _float(value: float) -> str | None:
    """Integers as integers (so that 3.0 is 3 and -0.0 is 0), all else in hexadecimal: exact and short.

    Decimal digits would not do: languages, and versions of one, print the same double differently.
    """
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value.is_integer() and abs(value) <= _EXACT_INTEGERS:
        return str(int(value))
    mantissa, exponent = _TRAILING_ZEROS.sub("p", value.hex(), count=1).split("p")
    return f"{mantissa}p{int(exponent)}"
