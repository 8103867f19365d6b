"""The paths of our pages on Airflow's API server, below URL_PREFIX."""

import re
from typing import Any
from urllib.parse import quote

URL_PREFIX = "/persia"

MODELS = "/models"
VERSION = "/models/{name}/{version}"
REPORT = "/models/{name}/{version}/report.html"
DATA_DOCS = "/data_docs/{dataset}/ds={ds}/{page:path}"
OF_A_KEY = "/{key:path}"  # of Data Docs: they keep the key that they have in the store
RANKS = "/runs/{name}/{ds}/{run}/ranks"
RANK_LOG = "/runs/{name}/{ds}/{run}/ranks/{log}"
TENSORBOARD = "/runs/{name}/{ds}/{run}/tensorboard"

_PLACE = re.compile(r"\{(\w+)(:path)?\}")


def fill(pattern: str, **values: Any) -> str:
    """The path with the values in it, quoted; those that are paths keep their slashes."""
    return _PLACE.sub(lambda m: quote(str(values[m[1]]), safe="/=" if m[2] else ""), pattern)
