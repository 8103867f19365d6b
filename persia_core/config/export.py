"""How a model version is written: the section `export` of a configuration."""

from typing import Literal

from persia_core.config.base import Section


class Export(Section):
    """What publishing makes of a checkpoint."""

    # Narrower ones change predictions: gates.max_prediction_difference is to be set with them.
    embeddings: Literal["float32", "float16", "int8"] = "float32"
    graph: bool = True  # the dense network as a torch.export program, which serving loads without its class
    delta: bool = False  # beside the full tables, what changed since the parent version
