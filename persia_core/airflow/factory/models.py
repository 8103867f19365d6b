"""The configurations that Airflow retrains: those in `configs/` with a section `airflow`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from persia_core.config import ModelConfig, load_config
from persia_core.config.airflow import AirflowSection
from persia_core.errors import ConfigError

_HAS_SECTION = re.compile(r"^airflow\s*:", re.MULTILINE)


@dataclass(frozen=True)
class ScheduledModel:
    """`file` is the configuration, relative to the project directory."""

    file: str
    config: ModelConfig
    airflow: AirflowSection

    @property
    def name(self) -> str:
        return self.config.name


def scheduled_models(folder: Path) -> list[ScheduledModel]:
    """The scheduled models in order of name. A file that cannot be read is left out: see `check_models`.

    One broken file must not take the DAGs of the other models away.
    """
    return sorted((m for m in _models(folder) if isinstance(m, ScheduledModel)), key=lambda model: model.name)


def check_models(folder: Path) -> None:
    """Raises ConfigError naming every file that cannot be read, and every two that name one model."""
    problems = [found.what for found in _models(folder) if isinstance(found, ConfigError)]
    names: dict[str, str] = {}
    for model in scheduled_models(folder):
        if model.name in names:
            problems.append(f"{names[model.name]} and {model.file} both describe the model {model.name}")
        names[model.name] = model.file
    if problems:
        raise ConfigError("; ".join(problems), "mend these files; the DAGs of the others are not touched")


def _models(folder: Path) -> Iterator[ScheduledModel | ConfigError]:
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        # Ready schemas are long, and reading them costs a tenth of a second each.
        if not _HAS_SECTION.search(path.read_text(encoding="utf-8", errors="replace")):
            continue
        try:
            config = load_config(path)
        except ConfigError as error:
            yield error
            continue
        if config.airflow is not None:
            yield ScheduledModel(f"{folder.name}/{path.name}", config, config.airflow)
