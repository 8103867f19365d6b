"""Every `persia` command in a document is one that exists, with options that it has."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from persia_core.cli import build_parser

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "infra").rglob("*.md")]
)
_SPAN = re.compile(r"`([^`]+)`")


def commands(text: str) -> Iterator[str]:
    """What stands after `persia` in spans and indented lines of code, without comments."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    # A paragraph may break within a span.
    spans = [" ".join(span.split()) for block in text.split("\n\n") for span in _SPAN.findall(block)]
    for piece in [*spans, *lines]:
        found = re.match(r"(?:\$ )?(?:\.venv/bin/)?persia ([a-z].*)", piece)
        if found:
            yield found[1].partition(" #")[0].partition("   ")[0].strip()


def problem(command: str) -> str | None:
    """What is wrong with the words of a command; None if there is such a command, with such options."""
    parser = build_parser()
    words = shlex.split(command.replace("[", " ").replace("]", " "))
    while words:
        subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not subparsers:
            break
        choices = subparsers[0].choices
        word = words.pop(0).strip(",")
        if word.isupper() or word in ("…", "..."):
            return None
        if word not in choices:
            return f"there is no {word!r} in {sorted(choices)}"
        parser = choices[word]
    known = {option for action in parser._actions for option in action.option_strings}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known:
            return f"there is no option {option}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_commands_in_a_document_exist(document: Path) -> None:
    wrong = {
        command: why
        for command in commands(document.read_text(encoding="utf-8"))
        if (why := problem(command))
    }
    assert not wrong, wrong


def test_the_runbooks_are_seen_and_what_does_not_exist_is_found() -> None:
    found = list(commands((PROJECT / "docs" / "production.md").read_text(encoding="utf-8")))
    assert len(found) > 20
    assert any(command.startswith("job show --config") for command in found)
    assert problem("models history --config FILE") is None
    assert problem("models past --config FILE")
    assert problem("promote --config FILE --overrule")
