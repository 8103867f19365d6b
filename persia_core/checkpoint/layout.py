"""The file names of a checkpoint and of a run directory. See docs/formats/checkpoint.md."""

from pathlib import Path

CHECKPOINT = "checkpoint"
DENSE = "dense.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
RUN = "run.safetensors"  # random states of the trainers; in a cut, also rows that were skipped
CUTS = "cuts"  # a folder with a folder for each cut
METRICS = "metrics.json"
METRICS_LINES = "metrics.jsonl"
TENSORBOARD = "tensorboard"  # a folder of event files
PARITY = "parity.parquet"


def embedding_part(server: int) -> str:
    """What embedding server `server` writes; the C++ side spells the same name."""
    return f"embedding-{server}.safetensors"


def is_embedding_part(name: str) -> bool:
    return name.startswith("embedding-") and name.endswith(".safetensors")


def server_of_part(name: str) -> int | None:
    """The embedding server that wrote the part `name`; None if that is no name of such a part."""
    number = name.removeprefix("embedding-").removesuffix(".safetensors")
    return int(number) if number.isdecimal() and name == embedding_part(int(number)) else None


def run_directory(work: Path, model: str, ds: str, run: str) -> Path:
    """Where a training run keeps its files until they are published."""
    return work / model / f"ds={ds}" / run
