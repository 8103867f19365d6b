"""How our pages and cards are made from templates: escaped, and an error where a value is missing."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment(*folders: Path) -> Environment:
    """Templates of these folders, the first one that has a name; every value is escaped."""
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
