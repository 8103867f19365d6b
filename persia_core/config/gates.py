"""The gate's rules in the configuration."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from persia_core.config.base import GrownSection


class Gates(GrownSection):
    """What a candidate must show to become champion; docs/formats/model_version.md says how it is judged."""

    later_keys: ClassVar[frozenset[str]] = frozenset(
        {
            *("confidence", "tiny_test_set", "calibration", "min_slice_auc", "min_slice_rows"),
            *("min_coverage", "max_norm", "max_norm_change", "max_bytes"),
        }
    )

    min_rows: Annotated[int, Field(ge=1)] = 100  # below it there is no test: see tiny_test_set
    min_auc: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_auc_drop: Annotated[float, Field(ge=0, le=1)] = 0.01  # against the champion, same rows
    max_normalised_entropy_rise: Annotated[float, Field(ge=0)] = 0.03  # against the champion, same rows
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95  # one-sided: that neither margin is exceeded
    # On fewer than min_rows rows: the figures decide as they are, or nothing does and the champion stays.
    tiny_test_set: Literal["estimate", "refuse"] = "estimate"
    calibration: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = (0.5, 2.0)
    min_slice_auc: Annotated[float, Field(ge=0, le=1)] | None = None  # of each of training.metric_slices
    min_slice_rows: Annotated[int, Field(ge=2)] = 1000  # smaller slices are not judged
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.5  # share of a partition's ids that have a row
    max_norm: Annotated[float, Field(gt=0)] = 1000.0  # Euclidean, of any row
    max_norm_change: Annotated[float, Field(ge=1)] = 10.0  # factor of a table's mean norm to the champion's
    max_bytes: Annotated[int, Field(ge=1)] | None = None  # of all parts of a version
    max_prediction_difference: Annotated[float, Field(gt=0)] = 1e-5  # trainer against reloaded export

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "Gates":
        if self.calibration[0] > self.calibration[1]:
            raise ValueError("calibration is [lower bound, upper bound]")
        return self
