"""What a graph may hold, checked before torch reads it. See docs/decisions/0030-a-graph-without-pickle.md.

torch.export.load unpickles example inputs and tensors that say so, hands shape expressions to sympy (which
evaluates them), executes guards, and resolves the name of an operator to any attribute of torch. An archive
that passes holds tensors as raw bytes, no example inputs, no guards and no metadata; its sizes are plain sums
and products, and it calls operators of ATen and arithmetic on sizes alone.
"""

import io
import json
import re
import zipfile
from typing import Any

from persia_core.errors import Corrupt

_REMEDY = "open it with nothing else; publish the version again under a new run"
_PROGRAM = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MEMBER = re.compile(
    "|".join(map(re.escape, (_PROGRAM, _EXAMPLES, *_PAYLOADS)))
    + r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version"
    r"|\.storage_alignment|version|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]{0,256}")
_TEXT = re.compile(r"[A-Za-z0-9_.,> -]{0,256}")
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|neg|floordiv|getitem|[engl][qte])"
)
_FILE_OPERATOR = "torch.ops.aten.from_file."  # it opens a path that the graph names
# As torch writes a size: Symbol('s7', positive=True, integer=True), or sums and products of such.
_SYMBOL = re.compile(r"Symbol\('s\d{1,9}'(, (positive|integer)=True){0,2}\)")
_SIZE = re.compile(r"(Mul\(|Add\(|Integer\(|-?\d{1,9}|[n,) ]){1,256}")
_CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", None}
_DEPTH = 64


def check_graph(data: bytes, where: str) -> None:
    """Raise Corrupt, naming `where`, unless the archive `data` is a plain graph with its tensors."""
    try:
        records = _records(data)
        if records[_EXAMPLES]:
            raise ValueError("it has example inputs, which are pickled")
        for name in _PAYLOADS:
            for tensor, entry in json.loads(records[name])["config"].items():
                if entry["use_pickle"] is not False:
                    raise ValueError(f"tensor {tensor} is pickled")
                _check({"meta": entry["tensor_meta"], "path": entry["path_name"]}, 0)
        program = json.loads(records[_PROGRAM])
        if program.pop("guards_code", None):
            raise ValueError("it has guards, which are executed")
        _check(program, 0)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile) as error:
        raise Corrupt(f"{where} is no graph that may be loaded: {error}", _REMEDY) from error


def _records(data: bytes) -> dict[str, bytes]:
    """The members that decide what loading does, read by the very reader that torch loads with."""
    from torch.export.pt2_archive import PT2ArchiveReader

    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # torch falls back to this one for an older format
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed: it could be of any size when it is read")
        listed = archive.namelist()
    with PT2ArchiveReader(io.BytesIO(data)) as reader:
        names = reader.get_file_names()
        for name in [*names, *(name.partition("/")[2] for name in listed)]:
            if not _MEMBER.fullmatch(name):
                raise ValueError(f"it has an unexpected member {name[:80]!r}")
        if len(set(listed)) != len(listed) or len(listed) != len(names):
            raise ValueError("its list of members is ambiguous")
        return {name: reader.read_bytes(name) for name in (_PROGRAM, _EXAMPLES, *_PAYLOADS)}


def _check(value: Any, depth: int) -> None:
    """Every string of a program is a plain name, unless its key says that it is something else."""
    if depth > _DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise ValueError(f"it has the text {value[:80]!r}")
    if isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            if not _known(key, item):
                _check(item, depth + 1)


def _known(key: str, value: Any) -> bool:
    """Check what has a rule of its own; False if it has none."""
    allowed: object
    if key == "expr_str":
        allowed = isinstance(value, str) and _SIZE.fullmatch(_SYMBOL.sub("n", value))
    elif key == "as_string":  # an argument of an operator, as the equation of einsum
        allowed = isinstance(value, str) and _TEXT.fullmatch(value)
    elif key == "target" and isinstance(value, str):
        allowed = _OPERATOR.fullmatch(value) and not value.startswith(_FILE_OPERATOR)
    elif key in ("metadata", "treespec_namedtuple_fields"):
        allowed = value == {}
    elif key in ("as_custom_obj", "as_operator", "as_graph"):
        allowed = False
    elif key in ("in_spec", "out_spec") and isinstance(value, str):
        allowed = _plain_tree(json.loads(value) if value else None)
    else:
        return False
    if not allowed:
        raise ValueError(f"its {key} is {str(value)[:80]!r}")
    return True


def _plain_tree(spec: Any) -> bool:
    """Whether a structure of inputs or outputs is made of tuples, lists and dictionaries."""
    if isinstance(spec, list):
        return all(_plain_tree(item) for item in spec)
    if isinstance(spec, dict):
        return spec.get("type") in _CONTAINERS and _plain_tree(spec.get("children_spec", []))
    return spec is None or isinstance(spec, int)
