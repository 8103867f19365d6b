"""How far a job has come, to be seen from outside; and a place for tests to hold it at.

Trainer 0 writes the name of the phase that it begins to the file PHASE of the run directory. If the
environment variable PERSIA_HOLD_AT names that phase, it then makes the file HELD and goes on when somebody
removes it. That is for tests alone: a killed process is of use only if one knows where it was.
"""

import contextlib
import os
import time
from enum import StrEnum
from pathlib import Path

# Of every process of a job. The same for a job that is run again; unlike its id, another one for every
# PERSIA_HOME of the host.
RUN_DIR_VARIABLE = "PERSIA_RUN_DIR"
PHASE = "phase"
HELD = "held"
HOLD_VARIABLE = "PERSIA_HOLD_AT"


class Phase(StrEnum):
    """In the order in which they come."""

    LOAD = "load"  # of the checkpoint it goes on from; the trainers have met
    EVALUATE = "evaluate"
    TRAIN = "train"
    CUT_MANIFEST = "cut-manifest"  # within TRAIN: all parts of a cut are there, its manifest is not
    CUT_SAVED = "cut-saved"  # within TRAIN: the manifest is there
    DRAIN = "drain"  # until every gradient has been acknowledged
    SAVE = "save"  # the parts of the checkpoint
    MANIFEST = "manifest"  # all parts are there, the manifest is not
    SAVED = "saved"  # the manifest is there
    REPORT = "report"
    LEAVE = "leave"


def begin(phase: Phase) -> None:
    """Say that `phase` begins, and hold there if the environment says so. Does nothing outside of a job."""
    if run_dir := os.environ.get(RUN_DIR_VARIABLE):
        with contextlib.suppress(OSError):  # a full disk must not stop the training for this
            Path(run_dir, PHASE).write_text(phase)
        hold_at(phase)


def hold_at(place: Phase) -> None:
    """Hold here if the environment says so."""
    run_dir = os.environ.get(RUN_DIR_VARIABLE)
    if run_dir and os.environ.get(HOLD_VARIABLE) == place:
        held = Path(run_dir, HELD)
        held.touch()
        while held.exists():
            time.sleep(0.02)


def phase_of(run_dir: Path) -> str | None:
    """The phase that was begun last; None before the first."""
    try:
        return (run_dir / PHASE).read_text() or None
    except FileNotFoundError:
        return None
