"""The table of exit codes in docs/operations.md says what persia_core/exit_codes.py says."""

import re
from pathlib import Path

from persia_core import errors
from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode, is_retryable

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
_ROW = re.compile(r"^\|\s*(\d+)\s*\|\s*`([A-Z_]+)`\s*\|\s*(.*?)\s*\|\s*(yes|no)\s*\|\s*$")


def documented() -> list[tuple[int, str, str, bool]]:
    """(code, name, meaning, retried) of every row of the section "Exit codes"."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    rows = [_ROW.match(line) for line in section.splitlines()]
    return [(int(row[1]), row[2], row[3], row[4] == "yes") for row in rows if row]


def test_every_code_is_documented_once_in_order_and_nothing_else() -> None:
    assert [(code, name) for code, name, _, _ in documented()] == [
        (int(code), code.name) for code in sorted(ExitCode)
    ]


def test_every_code_has_a_meaning_of_its_own() -> None:
    meanings = [meaning for _, _, meaning, _ in documented()]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_what_is_retried_is_what_the_operators_retry() -> None:
    assert {name for _, name, _, retried in documented() if retried} == {
        code.name for code in ExitCode if code is not ExitCode.OK and is_retryable(code)
    }


def test_every_error_ends_with_a_documented_code_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PersiaError) and kind is not PersiaError
    ]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes), "two errors end with one code: an operator cannot tell them apart"
    assert {code.name for code in codes} <= {name for _, name, _, _ in documented()}
