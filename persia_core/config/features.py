"""Features and embedding tables: the schema part of a model's configuration."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from persia_core.config.base import GrownSection, Name, Section
from persia_core.config.derived_features import (
    BucketisedFeature,
    CrossFeature,
    MinCount,
    MissingId,
    VocabularySample,
)
from persia_core.config.schedule import LearningRateSchedule


class DenseFeature(GrownSection):
    """A number: value = (transform(raw) - mean) / std, then clipped."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"missing_values"})

    kind: Literal["dense"]
    name: Name
    column: str | None = None
    transform: Literal["none", "log1p"] = "none"
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    clip: tuple[float, float] | None = None
    # The value after the transform that stands for null, empty and NaN; or such a row is rejected.
    missing: float | Literal["reject"] = 0.0
    missing_values: tuple[str, ...] = ()  # raw values that count as missing too

    @field_validator("clip")
    @classmethod
    def _ordered(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and clip[0] >= clip[1]:
            raise ValueError("clip must be [low, high] with low < high")
        return clip


class CategoricalFeature(GrownSection):
    """One id. `missing: own_id` gives null and empty an id of their own, `zero` no row at all.

    `reject` rejects the sample.
    """

    later_keys: ClassVar[frozenset[str]] = frozenset({"missing_values", "min_count", "vocabulary_sample"})

    kind: Literal["categorical"]
    name: Name
    column: str | None = None
    table: Name
    missing: MissingId = "own_id"
    missing_values: tuple[str, ...] = ()  # canonical strings that count as missing too
    min_count: MinCount = 1  # values of fewer rows of the partition share one id
    vocabulary_sample: VocabularySample = 0  # values that the manifest shows with their ids, for debugging


class MultiCategoricalFeature(GrownSection):
    """A bag of ids: an array column, or a string split at `delimiter`; at most `max_length` of them.

    Missing elements are left out, then `keep` says which end of a longer bag stays. A bag without elements
    is missing. With `pooling: sequence` a model gets
    the rows of the bag in its order, not their sum: a Sequence (see persia_core/models/sequence.py) of
    `sequence_length` places, for the last, most recent, ids of the bag.
    """

    later_keys: ClassVar[frozenset[str]] = frozenset(
        {"keep", "missing", "missing_values", "pooling", "sequence_length"}
    )

    kind: Literal["multi-categorical"]
    name: Name
    column: str | None = None
    table: Name
    delimiter: Annotated[str, Field(min_length=1)] = " "
    max_length: Annotated[int, Field(ge=1, le=4096)] = 64
    keep: Literal["first", "last"] = "first"  # of a longer bag; "last" for a history, the latest at its end
    missing: Literal["empty", "reject"] = "empty"
    missing_values: tuple[str, ...] = ()  # canonical strings of elements that count as missing too
    pooling: Literal["sum", "mean", "sqrtn", "sequence"] | None = None  # null: that of the table
    sequence_length: Annotated[int, Field(ge=1)] | None = None  # with pooling sequence; null: max_length

    @model_validator(mode="after")
    def _sequence_fits(self) -> "MultiCategoricalFeature":
        if self.sequence_length is not None and self.pooling != "sequence":
            raise ValueError("sequence_length goes with pooling: sequence; take it out, or set that")
        if self.sequence_length is not None and self.sequence_length > self.max_length:
            raise ValueError(
                f"sequence_length {self.sequence_length} is above max_length {self.max_length}, "
                "which is all that hashing keeps; raise max_length"
            )
        return self


class TimestampFeature(Section):
    """A part of the sample's time (UTC), as one id. Reads the time column of the dataset."""

    kind: Literal["timestamp"]
    name: Name
    part: Literal["hour", "weekday"]
    table: Name


Feature = Annotated[
    DenseFeature
    | CategoricalFeature
    | MultiCategoricalFeature
    | BucketisedFeature
    | CrossFeature
    | TimestampFeature,
    Field(discriminator="kind"),
]
IdFeature = CategoricalFeature | MultiCategoricalFeature | BucketisedFeature | CrossFeature | TimestampFeature
ColumnFeature = DenseFeature | CategoricalFeature | MultiCategoricalFeature | BucketisedFeature


class Sgd(Section):
    """d = g + weight_decay * w; b = momentum * b + d; w -= learning_rate * b."""

    kind: Literal["sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Adagrad(Section):
    """a += g^2; w -= learning_rate * g / (sqrt(a) + epsilon), per element (Duchi et al. 2011)."""

    kind: Literal["adagrad"]
    learning_rate: Annotated[float, Field(gt=0)]
    initial_accumulator: Annotated[float, Field(ge=0)] = 0.0
    epsilon: Annotated[float, Field(gt=0)] = 1e-10


class RowwiseAdagrad(Section):
    """a += mean(g^2); w -= learning_rate * g / (sqrt(a) + epsilon): one accumulator per row (FBGEMM)."""

    kind: Literal["rowwise_adagrad"]
    learning_rate: Annotated[float, Field(gt=0)]
    initial_accumulator: Annotated[float, Field(ge=0)] = 0.0
    epsilon: Annotated[float, Field(gt=0)] = 1e-10


class Adam(Section):
    """Adam (Kingma, Ba 2015) with bias correction by the number of steps that the row itself has taken."""

    kind: Literal["adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8


class Ftrl(Section):
    """FTRL-proximal, per element (McMahan et al. 2013); `learning_rate` is its alpha."""

    kind: Literal["ftrl"]
    learning_rate: Annotated[float, Field(gt=0)]
    initial_accumulator: Annotated[float, Field(ge=0)] = 0.0
    beta: Annotated[float, Field(ge=0)] = 1.0
    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 0.0


Optimizer = Annotated[Sgd | Adagrad | RowwiseAdagrad | Adam | Ftrl, Field(discriminator="kind")]


class Uniform(Section):
    """Every weight of a new row is uniform in [low, high), a pure function of (seed, id)."""

    kind: Literal["uniform"] = "uniform"
    low: float = -0.01
    high: float = 0.01

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if self.low >= self.high:
            raise ValueError("uniform needs low < high")
        return self


class Zeros(Section):
    """Every weight of a new row is 0."""

    kind: Literal["zeros"]


class Normal(Section):
    """Every weight of a new row is normal, a pure function of (seed, id)."""

    kind: Literal["normal"]
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 0.01


class ScaledUniform(Section):
    """Every weight of a new row is uniform in [-scale / sqrt(dim), scale / sqrt(dim))."""

    kind: Literal["scaled_uniform"]
    scale: Annotated[float, Field(gt=0)] = 1.0


Initializer = Annotated[Uniform | Zeros | Normal | ScaledUniform, Field(discriminator="kind")]


class Always(Section):
    """Every id gets a row when it is first looked up for training."""

    kind: Literal["always"] = "always"


class Sightings(Section):
    """An id gets its row at the `count`-th training lookup of it; until then it reads as zeros."""

    kind: Literal["sightings"]
    count: Annotated[int, Field(ge=1, le=255)]


class Probability(Section):
    """Ids get rows by a hash of (seed, id), `probability` of them all; the others read as zeros."""

    kind: Literal["probability"]
    probability: Annotated[float, Field(gt=0, le=1)]


class Eviction(Section):
    """A row goes when its last training lookup was more than `max_age_days` days before the partition's.

    Days are those of the partitions' dates, never of a clock: a replay evicts the same rows.
    """

    max_age_days: Annotated[int, Field(ge=1, lt=2**31)]


Admission = Annotated[Always | Sightings | Probability, Field(discriminator="kind")]
LARGEST_FLOAT16 = 65504.0
ROW_OVERHEAD_BYTES = 24  # what a row takes of the capacity beyond weights and optimizer state


class EmbeddingTable(Section):
    """A table of rows. `prefix` are the top bits of its ids and must never change or be reused."""

    name: Name
    prefix: Annotated[int, Field(ge=1)]
    dim: Annotated[int, Field(ge=1, le=1024)]
    # Of the bags of its features, unless they have their own: the sum of the rows, or that divided by the
    # number of ids in the bag (mean) or by its square root (sqrtn).
    pooling: Literal["sum", "mean", "sqrtn"] = "sum"
    # Of the weights in memory and in checkpoints; the optimizer computes and keeps its state in float32. The
    # 16-bit types are rounded stochastically: float16 is finer, bfloat16 has the range of float32.
    weight_type: Literal["float32", "bfloat16", "float16"] = "float32"
    optimizer: Optimizer
    learning_rate_schedule: LearningRateSchedule | None = None  # null: the learning rate does not change
    initializer: Initializer = Uniform()
    admission: Admission = Always()
    expected_rows: Annotated[int, Field(ge=1)] = 10_000  # over all servers, for the memory plan
    # On each server. A full table evicts the row least recently looked up for training; null: unbounded.
    capacity_bytes: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    eviction: Eviction | None = None  # by age; null: rows stay, whatever their age

    @property
    def state_dim(self) -> int:
        """Floats of optimizer state per row."""
        match self.optimizer:
            case Sgd(momentum=momentum):
                return self.dim if momentum > 0 else 0
            case Adagrad():
                return self.dim
            case RowwiseAdagrad():
                return 1
            case Adam():
                return 2 * self.dim + 1  # two moments, and the number of steps
            case Ftrl():
                return 2 * self.dim

    @property
    def row_bytes(self) -> int:
        """Weights and optimizer state of a row; 16-bit weights are filled up to 4 bytes."""
        weights = 4 * self.dim if self.weight_type == "float32" else (2 * self.dim + 3) // 4 * 4
        return weights + 4 * self.state_dim

    @model_validator(mode="after")
    def _uniform_fits(self) -> "EmbeddingTable":
        uniform = self.initializer
        largest = max(abs(uniform.low), abs(uniform.high)) if isinstance(uniform, Uniform) else 0.0
        if self.weight_type == "float16" and largest > LARGEST_FLOAT16:
            raise ValueError(f"uniform reaches beyond {LARGEST_FLOAT16}, the largest float16")
        return self

    @model_validator(mode="after")
    def _ftrl_has_one_rate(self) -> "EmbeddingTable":
        if self.learning_rate_schedule is not None and isinstance(self.optimizer, Ftrl):
            raise ValueError(
                "ftrl takes no learning_rate_schedule: its weights are a function of its state and the "
                "learning rate, so a changed rate would rescale them; use another optimizer, or no schedule"
            )
        return self

    @model_validator(mode="after")
    def _holds_a_row(self) -> "EmbeddingTable":
        row = self.row_bytes + ROW_OVERHEAD_BYTES
        if self.capacity_bytes is not None and self.capacity_bytes < row:
            raise ValueError(f"capacity_bytes must be at least the {row} bytes that one row takes")
        return self
