"""Times written as digits: a strict subset of strptime's formats, so that every language reads it alike."""

import re
from datetime import UTC, datetime

_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_ISO = "{Y}-{m}-{d} {H}:{M}:{S}"


def check_time_format(time_format: str) -> None:
    """ValueError unless it has a year, month and day, every directive is known and stands there once."""
    directives = re.findall(r"%(.?)", time_format, flags=re.DOTALL)
    for directive in directives:
        if directive not in _WIDTHS:
            raise ValueError(f"time_format knows no %{directive}; it takes %Y or %y, %m, %d, %H, %M, %S")
    if len(set(directives)) != len(directives) or {"Y", "y"} <= set(directives):
        raise ValueError("time_format names a part of the time twice")
    if not {"m", "d"} <= set(directives) or not {"Y", "y"} & set(directives):
        raise ValueError("time_format needs a year, a month and a day")


def time_pattern(time_format: str) -> tuple[str, str]:
    """A regular expression of the whole text, and its replacement (`$1`...): `YYYY-MM-DD HH:MM:SS`.

    Both are the same in Java and, but for the `$`, in Python. Two digits of a year are of 2000 to 2099.
    """
    pattern, parts, groups = "", dict.fromkeys("YmdHMS", "00"), 0
    for literal, directive in re.findall(r"([^%]+)|%(.)", time_format, flags=re.DOTALL):
        if literal:
            pattern += re.sub(r"([^\w\s])", r"\\\1", literal, flags=re.ASCII)
            continue
        groups += 1
        pattern += f"([0-9]{{{_WIDTHS[directive]}}})"
        parts["Y" if directive == "y" else directive] = f"{'20' * (directive == 'y')}${groups}"
    return pattern, _ISO.format(**parts)


def parse_time(text: str, time_format: str) -> int | None:
    """Unix seconds of a text in UTC; None if it is not of that format or no such moment exists."""
    pattern, replacement = time_pattern(time_format)
    match = re.fullmatch(pattern, text)
    if match is None:
        return None
    iso = re.sub(r"\$(\d)", lambda group: match[int(group[1])], replacement)
    try:
        return int(datetime.strptime(iso, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
