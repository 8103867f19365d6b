"""The oracle of 16-bit weights, which works on numbers and their spacings in float64."""

import numpy as np
from numpy.typing import NDArray

# Smallest exponent of a normal number, bits of the mantissa, largest finite number.
BFLOAT16 = (-126, 7, (2 - 2.0**-7) * 2.0**127)
FLOAT16 = (-14, 10, 65504.0)
FORMATS = {"bfloat16": BFLOAT16, "float16": FLOAT16}
_SALT = 0x5C0A571C5C0A571C
_MASK = (1 << 64) - 1

Wide = NDArray[np.float32]


def _mix64(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def random_bits(seed: int, id: int, step: int, dim: int) -> list[int]:
    """r of each element, as docs/formats/wire.md says."""
    h = _mix64((_mix64(id ^ _mix64(seed ^ _SALT)) + (step + 1) * 0x9E3779B97F4A7C15) & _MASK)
    found = []
    for j in range(dim):
        x = (h + (j + 1) * 0x9E3779B9) % 2**32
        x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
        x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
        found.append(x ^ (x >> 16) ^ (h >> 32))
    return found


def spacing(kind: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance between neighbouring numbers of the type at |x|."""
    smallest, mantissa, _ = FORMATS[kind]
    exponent = np.frexp(np.abs(x))[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, smallest) - mantissa)


def _bounded(kind: str, x: Wide, magnitude: NDArray[np.float64]) -> tuple[Wide, int]:
    largest = FORMATS[kind][2]
    found = np.copysign(np.minimum(magnitude, largest), x.astype(np.float64)).astype(np.float32)
    return found, int((magnitude > largest).sum())


def nearest(kind: str, x: Wide) -> tuple[Wide, int]:
    """x rounded to the nearest number, to the even one of two; and how many were too large."""
    if kind == "float32":
        return x.copy(), 0
    u = spacing(kind, x.astype(np.float64))
    return _bounded(kind, x, np.rint(np.abs(x.astype(np.float64)) / u) * u)  # rint: half to even


def stochastic(kind: str, x: Wide, bits: list[int]) -> tuple[Wide, int]:
    """x [n] rounded by the random bits r [n]; and how many were too large."""
    if kind == "float32":
        return x.copy(), 0
    wide = np.abs(x.astype(np.float64))
    u = spacing(kind, wide)
    # Bits of the mantissa of float32 (23, exponents from -126 on) that lie below u.
    exponent = np.maximum(np.frexp(wide)[1] - 1, -126)
    dropped = np.where(wide > 0, np.frexp(u)[1] - 1 - (exponent - 23), 31).astype(np.int64)
    share = wide / u
    far = dropped > 31
    share[far] = np.floor(share[far] * 2.0**31) / 2.0**31
    s = np.minimum(dropped, 31)
    r = np.array(bits, np.int64) >> (32 - s)
    with np.errstate(over="ignore"):
        return _bounded(kind, x, u * np.floor(share + r / 2.0**s))
