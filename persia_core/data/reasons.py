"""Why a raw row is rejected: the words that are counted, kept with the row and shown."""

from persia_core.config import ModelConfig
from persia_core.config.derived_features import BucketisedFeature
from persia_core.config.features import DenseFeature, Feature

MALFORMED_ROW = "malformed row"
BAD_WEIGHT = "weight: not a finite number of at least 0"
MISSING_TIME = "time: missing"
BAD_TIME = "time: not Unix seconds"
BAD_TIME_FORMAT = "time: not of dataset.time_format"


def bad_label(config: ModelConfig) -> str:
    """The reason of rows whose label is none of those that are declared, or missing."""
    if config.dataset.positive_labels:
        return "label: not one of positive_labels and negative_labels"
    return "label: neither 0 nor 1"


def bad_time(config: ModelConfig) -> str:
    """The reason of rows whose time cannot be read."""
    return BAD_TIME if config.dataset.time_format is None else BAD_TIME_FORMAT


def bad_number(feature: Feature) -> str:
    """The reason of rows with a value of `feature` that is no finite number."""
    return f"{feature.name}: not a finite number"


def missing_value(feature: Feature) -> str:
    """The reason of rows without a value of `feature`, where it says that they are rejected."""
    return f"{feature.name}: missing"


def reasons(config: ModelConfig) -> list[str]:
    """Every reason for which a row may be rejected; the first that holds counts."""
    found = [MALFORMED_ROW, bad_label(config)]
    if config.dataset.weight is not None:
        found.append(BAD_WEIGHT)
    if config.dataset.time_column is not None:
        found += [MISSING_TIME, bad_time(config)]
    for feature in config.features:
        if isinstance(feature, DenseFeature | BucketisedFeature):
            found.append(bad_number(feature))
        if getattr(feature, "missing", None) == "reject":
            found.append(missing_value(feature))
    return found
