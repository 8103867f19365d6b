"""How a model is trained: the section `training` of a configuration."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from persia_core.config.base import Name, Section


class DenseOptimizer(Section):
    """An optimizer of torch.optim by name, with its own arguments (lr, weight_decay, ...)."""

    name: str = "Adam"
    args: dict[str, Any] = Field(default_factory=dict)


class DenseSchedule(Section):
    """A learning rate schedule of torch.optim.lr_scheduler by name, with its own arguments.

    It takes a step after every step of the model or after every partition ("day"), and goes on after a
    restore. `schedulers` of SequentialLR and ChainedScheduler are given as names with args themselves.
    """

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    every: Literal["step", "day"] = "step"


class LossScaling(Section):
    """With float16 the loss is multiplied by a scale, lest small gradients vanish, and gradients are divided.

    A step whose gradients overflow is skipped and lowers the scale; `growth_interval` steps without overflow
    raise it: the rules of torch.amp.GradScaler.
    """

    initial: Annotated[float, Field(gt=0, le=2.0**24)] = 65_536.0
    growth_factor: Annotated[float, Field(gt=1, le=16)] = 2.0
    backoff_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    growth_interval: Annotated[int, Field(ge=1)] = 2000  # steps


class Training(Section):
    """How a partition is trained on."""

    mode: Literal["sync", "hybrid", "async"] = "hybrid"
    model: str  # import path "package.module:Class" of an ordinary torch.nn.Module
    model_args: dict[str, Any] = Field(default_factory=dict)
    seed: int = 42
    global_batch_size: Annotated[int, Field(ge=1)] = 1024  # samples per step, over all trainers
    epochs: Annotated[int, Field(ge=1)] = 1
    cold_start_epochs: Annotated[int, Field(ge=1)] | None = None  # default: epochs
    shuffle: bool = False  # else the order of the partition, which is by time
    staleness: Annotated[int, Field(ge=1, le=1024)] = 4  # batches per trainer; 1 in mode sync
    # Of a batch, the gradients that the trainers have for a row are one optimizer step, as if one trainer had
    # seen all of it. false: each trainer's are a step of their own. null: true, but false in mode async.
    combine_gradients: bool | None = None
    dense_optimizer: DenseOptimizer = DenseOptimizer()
    dense_schedule: DenseSchedule | None = None  # null: the learning rate of dense_optimizer does not change
    # Of the dense network's arithmetic where torch.autocast allows; parameters and evaluation stay float32.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    loss_scaling: LossScaling | None = None  # with float16; null: the defaults
    # Two runs of the same thing give the same bits. It takes staleness 1, and mode sync for several trainers.
    reproducible: bool = False
    max_skipped_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    # Features of one id whose values get metrics of their own in metrics.json, the most frequent ones.
    metric_slices: list[Name] = Field(default_factory=list)
    metric_slice_values: Annotated[int, Field(ge=1, le=1000)] = 20  # per feature
    tensorboard: bool = False  # event files beside metrics.jsonl, in the run directory
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _sync_is_not_stale(self) -> "Training":
        if self.mode == "sync" and self.staleness != 1:
            raise ValueError("mode sync means staleness 1; set staleness: 1 or another mode")
        return self

    @model_validator(mode="after")
    def _only_hybrid_has_a_choice(self) -> "Training":
        chosen = self.combine_gradients
        if chosen is not None and self.mode != "hybrid" and self.combines != chosen:
            raise ValueError(
                f"mode {self.mode} means combine_gradients: {str(self.combines).lower()}; remove it, or set "
                "mode: hybrid, which has the choice"
            )
        return self

    @property
    def combines(self) -> bool:
        """Whether the servers make one optimizer step of what all trainers push for a batch."""
        if self.mode == "hybrid" and self.combine_gradients is not None:
            return self.combine_gradients
        return self.mode != "async"

    @model_validator(mode="after")
    def _what_is_stale_is_not_reproducible(self) -> "Training":
        if self.reproducible and (self.mode == "async" or self.staleness != 1):
            raise ValueError(
                "reproducible needs staleness 1 and mode sync (or hybrid with one trainer), given are "
                f"staleness {self.staleness} and mode {self.mode}: what is read must not depend on speed"
            )
        return self

    @model_validator(mode="after")
    def _only_float16_is_scaled(self) -> "Training":
        if self.loss_scaling is not None and self.precision != "float16":
            raise ValueError(
                f"loss_scaling is for precision float16; remove it, precision is {self.precision}"
            )
        return self

    @model_validator(mode="after")
    def _async_is_on_the_host(self) -> "Training":
        if self.mode == "async" and self.device == "cuda":
            raise ValueError(
                "mode async keeps the dense parameters in the host's memory, where all trainers change them; "
                "set device: cpu, or mode: hybrid"
            )
        return self
