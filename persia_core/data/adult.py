"""UCI Adult (Becker and Kohavi, 1996): does a person earn over 50,000 dollars? CC BY 4.0, not shipped.

The columns are those of PERSIA's own example: 8 categorical and 5 numeric ones. `fnlwgt`, a weight of
the census sample, is left out.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from persia_core.data.days import DaySummary, raw_day
from persia_core.errors import DataInvalid

if TYPE_CHECKING:
    import pandas as pd

FIELDS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
)
NUMERIC = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORICAL = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
)
LABELS = {"<=50K": 0, ">50K": 1}
TRAIN_DS, TEST_DS = "1994-01-01", "1994-01-02"


def read_adult(path: Path) -> "pd.DataFrame":
    """`adult.data` or `adult.test` in the order of the file: CATEGORICAL (str), NUMERIC (int64), label.

    A missing value (`?`) is the empty string; label is int64, 1 for over 50,000 dollars. Raises
    DataInvalid for a file of another form.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(
            path,
            header=None,
            names=list(FIELDS),
            skipinitialspace=True,
            comment="|",
            dtype={name: str for name in FIELDS if name not in NUMERIC},
            keep_default_na=False,
        )
        numbers = {name: frame[name].astype("int64") for name in NUMERIC}
    except (OSError, ValueError) as error:
        raise DataInvalid(f"{path}: {error}", "give adult.data or adult.test of UCI Adult") from error
    label = frame["income"].str.rstrip(".").map(LABELS)
    if label.isna().any():
        line = frame["income"][label.isna()].iloc[0]
        raise DataInvalid(f"{path}: income is {line!r}", f"it must be one of {', '.join(LABELS)}")
    texts = {name: frame[name].replace("?", "") for name in CATEGORICAL}
    return pd.DataFrame({**texts, **numbers, "label": label.astype("int64")})


def write_adult(data: Path, test: Path, out: Path) -> list[DaySummary]:
    """The two files as raw days `<out>/ds=.../adult.csv.gz`: TRAIN_DS, then TEST_DS (days in name only)."""
    summaries = []
    for ds, source in ((TRAIN_DS, data), (TEST_DS, test)):
        frame = read_adult(source)
        with raw_day(out, ds, "adult") as (path, packed):
            packed.write(frame.to_csv(index=False, lineterminator="\n").encode())
        summaries.append(DaySummary(ds, path, len(frame), int(frame["label"].sum())))
    return summaries
