"""The configuration of a model: one YAML file, checked before anything runs."""

from persia_core.config.load import load_config, parse_config
from persia_core.config.model import ModelConfig

__all__ = ["ModelConfig", "load_config", "parse_config"]
