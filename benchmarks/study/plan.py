"""What the study compares: data sets with their configurations, and the settings of training."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.study import raw
from persia_core.config import ModelConfig, parse_config

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """A mode, its bound on staleness, and whether the trainers' gradients of a batch are one step."""

    name: str
    mode: str
    staleness: int
    combine: bool | None = None  # as the mode has it


DEFAULT_STALENESS = 4
SYNC = Setting("sync", "sync", 1)
HYBRIDS = tuple(Setting(f"hybrid-{bound}", "hybrid", bound, True) for bound in (1, DEFAULT_STALENESS, 16, 64))
HYBRID = HYBRIDS[1]
SEPARATE = Setting(f"hybrid-{DEFAULT_STALENESS}-separate", "hybrid", DEFAULT_STALENESS, False)
ASYNC = Setting("async", "async", DEFAULT_STALENESS)
SETTINGS = (SYNC, *HYBRIDS, SEPARATE, ASYNC)


@dataclass(frozen=True)
class StudyData:
    """Partitions in order: the model is trained on each but the last, and tested on each but the first.

    It is tested on a day before it is trained on it. `folder` is where the raw files lie among the data
    sets; None for one that is made.
    """

    name: str
    write: raw.Write
    days: tuple[str, ...]
    folder: str | None

    def document(self) -> dict[str, Any]:
        """Its configuration as it stands in the file."""
        found: dict[str, Any] = yaml.safe_load((HERE / f"{self.name}.yaml").read_text(encoding="utf-8"))
        return found


DATA = (
    StudyData("adult", raw.adult, raw.ADULT_DAYS, "adult"),
    StudyData("criteo", raw.criteo, raw.CRITEO_DAYS, "criteo"),
    StudyData("yoochoose", raw.yoochoose, raw.YOOCHOOSE_DAYS, "yoochoose"),
    StudyData("synthetic", raw.synthetic, raw.SYNTHETIC_DAYS, None),
)
PERSIA_SETTING = StudyData("adult_persia", raw.adult, raw.ADULT_DAYS, "adult")


def configured(data: StudyData, setting: Setting, **changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a data set under a setting, as a document; `changes` replace keys of sections."""
    document = data.document()
    document["training"] |= {"mode": setting.mode, "staleness": setting.staleness}
    if setting.combine is not None:
        document["training"]["combine_gradients"] = setting.combine
    for section, values in changes.items():
        document[section] |= values
    return document


def resolved(document: dict[str, Any], store: Path) -> ModelConfig:
    """The checked configuration, with its partitions in `store`. Raises ConfigError."""
    return parse_config(document | {"storage": {"url": f"file://{store}"}}, document["name"])


def fingerprint(document: dict[str, Any], digests: list[str]) -> str:
    """What a result belongs to: SHA-256 over a configuration and the content of its partitions."""
    text = json.dumps([document, digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
