"""The dense network as an ONNX file, for runtimes other than torch.

It has the inputs of the exported graph, by the same names, and one output: logits float32 [B]. Made from the
very program that the graph is, so that both compute the same.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from persia_core.errors import Corrupt
from persia_core.handoff.onnx_check import checked_model

if TYPE_CHECKING:
    import torch

ONNX = "model.onnx"
LOGITS = "logits"

_BUILD_DETAILS = ("doc_string", "metadata_props")


class NotExportable(Exception):
    """The network has no form in ONNX; the text says why, in one line."""


def write_onnx(program: "torch.export.ExportedProgram", inputs: list[str], out: Path) -> int:
    """Write the exported `program` to `out`, its inputs called `inputs`; returns the operators' version.

    The same program gives the same bytes. Raises NotExportable.
    """
    import torch

    try:
        with warnings.catch_warnings(), _quiet("torch.onnx"):
            warnings.simplefilter("ignore")  # torch's own use of what it has deprecated
            exported: Any = torch.onnx.export(
                program, input_names=inputs, output_names=[LOGITS], dynamo=True, verbose=False
            )
        model = exported.model_proto
        _forget_the_build(model)
        data: bytes = model.SerializeToString(deterministic=True)
        checked_model(data, str(out))
    except Corrupt as error:
        raise NotExportable(error.what) from error
    except Exception as error:  # whatever the exporter raises for an operator that it does not know
        raise NotExportable(f"{type(error).__name__}: {_first_line(error)}") from error
    out.write_bytes(data)
    return next(int(each.version) for each in model.opset_import if not each.domain)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without what these loggers say of packages that are not there."""
    found = [
        logging.getLogger(each) for each in (name, *logging.root.manager.loggerDict) if each.startswith(name)
    ]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


class OnnxNetwork:
    """An ONNX file under ONNX Runtime, on one thread: requests run side by side."""

    def __init__(self, path: Path) -> None:
        """Raises Corrupt if the file holds anything but a plain network, or does not load."""
        import onnxruntime

        data = checked_model(path.read_bytes(), str(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised, too
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, none of them documented
            raise Corrupt(
                f"{path} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {_first_line(error)}",
                "publish the version again under a new run",
            ) from error

    def __call__(self, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Logits float32 [B]."""
        if any(not len(values) for values in inputs.values()):
            return np.empty(0, np.float32)  # operators of ONNX Runtime may end the process without rows
        logits: NDArray[np.float32] = self._session.run([LOGITS], inputs)[0]
        return logits


def _forget_the_build(message: Any) -> None:
    """Remove traces of the stack, which name files of this machine, from every part of a message."""
    for name in _BUILD_DETAILS:
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                _forget_the_build(each)


def _first_line(error: BaseException) -> str:
    """What the innermost error says: the exporter wraps it into advice for people at a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", (str(error).strip().splitlines() or ["it said nothing"])[0])[:300]
