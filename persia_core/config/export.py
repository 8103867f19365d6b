"""How a model version is written: the section `export` of a configuration."""

from typing import ClassVar, Literal

from persia_core.config.base import GrownSection


class Export(GrownSection):
    """What publishing makes of a checkpoint."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"onnx"})

    # Narrower ones change predictions: gates.max_prediction_difference is to be set with them.
    embeddings: Literal["float32", "float16", "int8"] = "float32"
    graph: bool = True  # the dense network as a torch.export program, which serving loads without its class
    onnx: bool = True  # that program as an ONNX file too, where ONNX can express it; needs graph
    delta: bool = False  # beside the full tables, what changed since the parent version
