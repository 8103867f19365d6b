"""The ONNX file of a version: written where ONNX can express the network, kept where it predicts the same."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persia_core.checkpoint.layout import PARITY
from persia_core.config import ModelConfig
from persia_core.errors import Corrupt
from persia_core.handoff.onnx_file import ONNX, NotExportable, write_onnx
from persia_core.handoff.parity import runtime_difference
from persia_core.handoff.serving_model import open_model
from persia_core.handoff.serving_schema import OnnxFile, ServingSchema

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-5  # of a probability, from that of the graph on the parity rows


def export_onnx(
    config: ModelConfig, program: "torch.export.ExportedProgram | None", out: Path, schema: ServingSchema
) -> tuple[ServingSchema, dict[str, Any]]:
    """Write the ONNX file beside the other parts of a version; the schema that names it, and what is known.

    `out` holds all that is needed to predict, `schema` and the parity rows included. Where there is no file,
    the schema is the one that was given, and `reason` says why.
    """
    reason: str
    if not config.export.onnx or program is None or schema.graph is None:
        reason = "switched off: export.onnx" if not config.export.onnx else "there is no graph: export.graph"
        return schema, {"file": None, "max_difference": None, "reason": reason}
    inputs = schema.graph.inputs
    try:
        opset = write_onnx(program, inputs, out / ONNX)
        rows, difference = runtime_difference(open_model(out), out / PARITY)
        if difference is None or not difference <= MAX_DIFFERENCE:
            raise NotExportable(
                f"it differs from the graph by {difference} on {rows} parity rows, above {MAX_DIFFERENCE}"
            )
    except (NotExportable, Corrupt) as error:
        reason = error.what if isinstance(error, Corrupt) else str(error)
        (out / ONNX).unlink(missing_ok=True)
        logger.warning("%s has no ONNX file: %s", config.training.model, reason)
        return schema, {
            "file": None,
            "max_difference": None,
            "reason": reason.replace(str(out), "").strip("/ "),
        }
    named = schema.model_copy(update={"onnx": OnnxFile(inputs=inputs, opset=opset)})
    return named, {"file": ONNX, "max_difference": float(f"{difference:.1e}"), "reason": None}
