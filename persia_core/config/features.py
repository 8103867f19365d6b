"""Features and embedding tables: the schema part of a model's configuration."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from persia_core.config.base import Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class DenseFeature(Section):
    """A number: value = (transform(raw) - mean) / std, then clipped."""

    kind: Literal["dense"]
    name: Name
    column: str | None = None
    transform: Literal["none", "log1p"] = "none"
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    clip: tuple[float, float] | None = None
    missing: float = 0.0  # the value after the transform that stands for null, empty and NaN

    @field_validator("clip")
    @classmethod
    def _ordered(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and clip[0] >= clip[1]:
            raise ValueError("clip must be [low, high] with low < high")
        return clip


class CategoricalFeature(Section):
    """One id. `missing: own_id` gives null and empty an id of their own, `zero` no row at all."""

    kind: Literal["categorical"]
    name: Name
    column: str | None = None
    table: Name
    missing: Literal["own_id", "zero"] = "own_id"


class MultiCategoricalFeature(Section):
    """A bag of ids: an array column, or a string split at `delimiter`; at most `max_length` of them."""

    kind: Literal["multi-categorical"]
    name: Name
    column: str | None = None
    table: Name
    delimiter: Annotated[str, Field(min_length=1)] = " "
    max_length: Annotated[int, Field(ge=1, le=4096)] = 64


class TimestampFeature(Section):
    """A part of the sample's time (UTC), as one id. Reads the time column of the dataset."""

    kind: Literal["timestamp"]
    name: Name
    part: Literal["hour", "weekday"]
    table: Name


Feature = Annotated[
    DenseFeature | CategoricalFeature | MultiCategoricalFeature | TimestampFeature,
    Field(discriminator="kind"),
]
IdFeature = CategoricalFeature | MultiCategoricalFeature | TimestampFeature


class Sgd(Section):
    """w -= learning_rate * g"""

    kind: Literal["sgd"]
    learning_rate: Annotated[float, Field(gt=0)]


class Adagrad(Section):
    """a += g^2; w -= learning_rate * g / (sqrt(a) + epsilon), per element (Duchi et al. 2011)."""

    kind: Literal["adagrad"]
    learning_rate: Annotated[float, Field(gt=0)]
    initial_accumulator: Annotated[float, Field(ge=0)] = 0.0
    epsilon: Annotated[float, Field(gt=0)] = 1e-10


Optimizer = Annotated[Sgd | Adagrad, Field(discriminator="kind")]


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


Initializer = Annotated[Uniform | Zeros, Field(discriminator="kind")]


class EmbeddingTable(Section):
    """A table of rows. `prefix` are the top bits of its ids and must never change or be reused."""

    name: Name
    prefix: Annotated[int, Field(ge=1)]
    dim: Annotated[int, Field(ge=1, le=1024)]
    pooling: Literal["sum", "mean"] = "sum"
    optimizer: Optimizer
    initializer: Initializer = Uniform()
    expected_rows: Annotated[int, Field(ge=1)] = 10_000  # over all servers, for the memory plan

    @property
    def state_dim(self) -> int:
        """Floats of optimizer state per row."""
        return self.dim if self.optimizer.kind == "adagrad" else 0
