"""What an ONNX file may hold, checked before a runtime reads it.

ONNX has no operator that runs code, but a tensor may name any file of the host for its values, operators of
other domains do what their library likes, and a branch or loop is a program of its own. A file that passes
holds its tensors itself and calls operators of the standard's own domain, one after the other.
"""

from collections.abc import Iterator
from typing import Any

from persia_core.errors import Corrupt

_REFUSED = {"FunctionProto", "TrainingInfoProto", "SparseTensorProto", "DeviceConfigurationProto"}
_REMEDY = "open it with nothing else; publish the version again under a new run"


def checked_model(data: bytes, where: str) -> bytes:
    """The model `data` as it was understood here, written anew, so that no reader understands it otherwise.

    Raises Corrupt, naming `where`, unless it is a plain network.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
        model.DiscardUnknownFields()
        _check(model, onnx)
    except (ValueError, DecodeError) as error:
        raise Corrupt(f"{where} is no ONNX file that may be loaded: {error}", _REMEDY) from error
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _check(model: Any, onnx: Any) -> None:
    if not model.graph.node:
        raise ValueError("it has no operators")
    graphs = 0
    for part in _parts(model):
        kind = part.DESCRIPTOR.name
        graphs += kind == "GraphProto"
        if kind in _REFUSED or graphs > 1:
            raise ValueError(f"it has a {kind} where a plain network has none")
        if kind in ("NodeProto", "OperatorSetIdProto") and part.domain not in ("", "ai.onnx"):
            raise ValueError(f"it needs operators of the domain {part.domain[:80]!r}")
        if kind == "TensorProto" and (part.external_data or part.data_location != onnx.TensorProto.DEFAULT):
            raise ValueError(f"tensor {part.name[:80]!r} is in another file")


def _parts(message: Any) -> Iterator[Any]:
    """Every message inside of `message`."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                yield each
                yield from _parts(each)
