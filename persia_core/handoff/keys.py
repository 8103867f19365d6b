"""Which keys every object store accepts, and how much `get` is willing to read."""

MAX_SMALL_OBJECT_BYTES = 64 << 20


def check_key(key: str) -> str:
    """Return `key` if it is a plain relative path, else raise ValueError.

    Refused: an empty key, an absolute one, empty components, `.`, `..`, a backslash, NUL.
    """
    if "\\" in key or "\0" in key or any(step in ("", ".", "..") for step in key.split("/")):
        raise ValueError(f"key {key!r} must be a relative path without '.', '..' or empty components")
    return key


def check_prefix(prefix: str) -> str:
    """As `check_key`, for a listing: empty and a trailing slash are allowed."""
    if prefix and prefix != "/":
        check_key(prefix.removesuffix("/"))
    elif prefix:
        raise ValueError(f"prefix {prefix!r} is absolute")
    return prefix
