"""Which day a run works on, and the name of its training run."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.airflow.partition import partition, run_name
from persia_core.handoff.layout import checkpoint_prefix

pytestmark = pytest.mark.airflow


@dataclass
class Run:
    run_id: str = "manual__1"
    partition_key: str | None = None


def test_the_partition_key_decides() -> None:
    assert partition(Run(partition_key="2026-11-20"), {"ds": None}) == "2026-11-20"


def test_without_a_key_the_param_decides() -> None:
    assert partition(Run(), {"ds": "1998-04-02"}) == "1998-04-02"


def test_key_and_equal_param_are_no_contradiction() -> None:
    assert partition(Run(partition_key="1998-04-02"), {"ds": "1998-04-02"}) == "1998-04-02"


@pytest.mark.parametrize(
    ("key", "params", "named"),
    [
        (None, {}, "names no partition"),
        (None, {"ds": None}, "names no partition"),
        (None, {"ds": ""}, "names no partition"),
        ("1998-04-02", {"ds": "1998-04-03"}, "only one"),
        ("yesterday", {}, "'yesterday'"),
        (None, {"ds": "2026-02-30"}, "day is out of range"),
        (None, {"ds": "../etc"}, "'../etc'"),
        (None, {"ds": "2026-11-20\n"}, "2026-11-20"),
    ],
)
def test_anything_else_fails_without_a_retry(key: str | None, params: dict[str, Any], named: str) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="trigger") as caught:
        partition(Run(partition_key=key), params)
    assert named in str(caught.value)


def test_a_training_run_has_the_same_name_for_every_try() -> None:
    assert run_name(Run("scheduled__2026-11-20T03:00:00+00:00")) == run_name(
        Run("scheduled__2026-11-20T03:00:00+00:00", partition_key="2026-11-20")
    )


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=250))
def test_every_airflow_run_id_gives_a_name_that_is_one_path_component(run_id: str) -> None:
    prefix = checkpoint_prefix("m", "2026-11-20", run_name(Run(run_id)))  # raises if it were not
    assert prefix.count("/") == 4


@given(st.lists(st.from_regex(r"[A-Za-z0-9_.~:+-]{1,120}", fullmatch=True), min_size=2, unique=True))
def test_different_airflow_runs_never_share_a_name(run_ids: list[str]) -> None:
    assert len({run_name(Run(run_id)) for run_id in run_ids}) == len(run_ids)
