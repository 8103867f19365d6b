"""Reading a model's YAML file, with errors that name file, key and the nearest valid key."""

import difflib
import os
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from persia_core.config.metrics import Metrics
from persia_core.config.model import ModelConfig
from persia_core.errors import ConfigError

PUSHGATEWAY_VARIABLE = "PERSIA_PUSHGATEWAY"
_METRICS_VARIABLES = {
    "pushgateway": PUSHGATEWAY_VARIABLE,
    "textfile_dir": "PERSIA_METRICS_DIR",
    "instance": "PERSIA_METRICS_INSTANCE",
}


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML allows a key twice and keeps the last: here that is an error."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands here twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_config(path: Path) -> ModelConfig:
    """The configuration in `path`, with what the environment says of storage and metrics applied.

    Raises ConfigError naming the file and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}", "name an existing YAML file in UTF-8"
        ) from error
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}", "mend the line that is named") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: holds no mapping", "start from one of the files in configs/")
    return parse_config(document, str(path))


def parse_config(document: dict[str, Any], where: str) -> ModelConfig:
    """Validate a configuration given as a mapping; `where` names it in errors (ConfigError)."""
    document = dict(document)
    storage = dict(document.get("storage") or {})
    if url := os.environ.get("PERSIA_STORAGE_URL"):
        storage["url"] = url
    if endpoint := os.environ.get("PERSIA_S3_ENDPOINT"):
        storage["endpoint_url"] = endpoint
    if storage:
        document["storage"] = storage
    if given := _metrics_in_environment():
        document["metrics"] = dict(document.get("metrics") or {}) | given
    try:
        return ModelConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: " + "; ".join(_lines(error)), "correct the file and run again"
        ) from error


def metrics_of_environment() -> Metrics:
    """The section `metrics` where no configuration could be read. Raises pydantic's ValidationError."""
    return Metrics.model_validate(_metrics_in_environment())


def _metrics_in_environment() -> dict[str, str]:
    return {key: value for key, name in _METRICS_VARIABLES.items() if (value := os.environ.get(name))}


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        steps = [str(step) for step in item["loc"]]
        place = ".".join(steps) or "the file"
        if item["type"] == "extra_forbidden":
            valid = _valid_keys(item["loc"][:-1])
            near = difflib.get_close_matches(steps[-1], valid, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid keys: {', '.join(sorted(valid))}"
            lines.append(f"unknown key {place!r}{hint}")
        elif item["type"] == "missing":
            lines.append(f"key {place!r} is missing")
        elif item["type"] == "union_tag_not_found":
            lines.append(f"key '{place}.kind' is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f" (given: {item['input']!r})"
            lines.append(f"{place}: {message}{given}")
    return lines


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `location` knows. List positions and union tags are stepped over."""
    sections: list[type[BaseModel]] = [ModelConfig]
    for step in location:
        if isinstance(step, int):
            continue
        inner = [
            found
            for section in sections
            if step in section.model_fields
            for found in _sections_in(section.model_fields[step].annotation)
        ]
        if inner:
            sections = inner
        else:
            tagged = [s for s in sections if "kind" in s.model_fields and step in _tags(s)]
            sections = tagged or sections
    return sorted({key for section in sections for key in section.model_fields})


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(section.model_fields["kind"].annotation)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections_in(inner)]
