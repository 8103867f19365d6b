"""Cuts that follow others: which are usable, which of them must stay, and what is said of the rest."""

import contextlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persia_core.checkpoint import cuts
from persia_core.checkpoint.cut_chain import embedding_paths
from persia_core.checkpoint.cuts import newest_whole_cut, prune_cuts
from persia_core.errors import Corrupt
from persia_core.handoff.manifest import Manifest, Part, digest_of
from persia_core.training.growing_chain import GrowingChain
from tests.unit.test_cuts import IDENTITY, flip, garble, remove, truncate, write_cut

Links = list[dict[str, Any]]


def link_to(directory: Path) -> dict[str, Any]:
    digest = json.loads((directory / "manifest.json").read_bytes())["digest"]
    return {"step": int(directory.name), "digest": digest}


def write_chain(run_dir: Path, *steps: int, **changes: Any) -> list[Path]:
    """A base at the first of the steps, and deltas at the others."""
    links: Links = []
    directories = []
    for step in steps:
        directories.append(write_cut(run_dir, step, follows=list(links), **changes))
        links.append(link_to(directories[-1]))
    return directories


def steps_in(run_dir: Path) -> set[int]:
    return {int(path.name) for path in (run_dir / "cuts").iterdir()}


def test_a_delta_brings_the_parts_of_all_that_it_follows(tmp_path: Path) -> None:
    write_chain(tmp_path, 2, 3)
    directories = write_chain(tmp_path, 4, 8, 12)
    found = newest_whole_cut(tmp_path, IDENTITY)
    assert found is not None and found.step == 12
    assert embedding_paths(found.directory) == [each / "embedding-0.safetensors" for each in directories]
    assert embedding_paths(directories[0]) == [directories[0] / "embedding-0.safetensors"]


def replace_by_another_attempt(directory: Path) -> None:
    """A whole cut of this very run at the same step, but not the one that was followed."""
    shutil.rmtree(directory)
    other = write_cut(directory.parents[1] / "other", int(directory.name))
    state = other / "state.json"
    state.write_bytes(b"{}")
    document = json.loads((other / "manifest.json").read_text())
    parts = [Part.model_validate(part) for part in document["parts"]]
    for index, part in enumerate(parts):
        if part.path == state.name:
            sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}
            parts[index] = part.model_copy(update={"size": 2, "sha256": sha256})
    document["parts"] = [part.model_dump() for part in parts]
    document["digest"] = digest_of(parts)
    (other / "manifest.json").write_text(json.dumps(document))
    other.rename(directory)


def lose_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


@pytest.mark.parametrize(("damaged", "left"), [(4, 3), (8, 4), (12, 8)])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (truncate, "embedding-0.safetensors has "),
        (flip, "embedding-0.safetensors has another SHA-256"),
        (remove, "embedding-0.safetensors is missing"),
        (lose_manifest, "manifest.json is missing"),
        (garble, "manifest.json: "),
        (shutil.rmtree, "manifest.json is missing"),
        (replace_by_another_attempt, "manifest.json is of another cut"),
    ],
)
def test_damage_beneath_a_delta_is_named_and_the_newest_without_it_is_taken(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damaged: int,
    left: int,
    damage: Callable[[Path], None],
    what: str,
) -> None:
    write_chain(tmp_path, 2, 3)
    write_chain(tmp_path, 4, 8, 12)
    damage(tmp_path / "cuts" / str(damaged))
    with caplog.at_level(logging.WARNING):
        found = newest_whole_cut(tmp_path, IDENTITY)
    assert found is not None
    if damage is replace_by_another_attempt:
        # That one is whole by itself: only what follows another one cannot be used.
        left = damaged
    assert found.step == left
    if damaged < 12:
        assert "the cut at step 12 is damaged: " in caplog.text
        assert f"cuts/{damaged}/{what}" in caplog.text
    assert steps_in(tmp_path) == {step for step in (2, 3, 4, 8, 12) if step <= left}


@pytest.mark.parametrize(
    "follows",
    [
        "8",
        [8],
        [{"step": 8}],
        [{"step": "8", "digest": "a" * 64}],
        [{"step": 8.0, "digest": "a" * 64}],
        [{"step": True, "digest": "a" * 64}],
        [{"step": 0, "digest": "a" * 64}],
        [{"step": 8, "digest": "../"}],
        [{"step": 8, "digest": "a" * 64, "path": "/etc"}],
        [{"step": 12, "digest": "a" * 64}],
        [{"step": 8, "digest": "a" * 64}, {"step": 8, "digest": "a" * 64}],
        [{"step": 8, "digest": "a" * 64}, {"step": 4, "digest": "a" * 64}],
    ],
)
def test_a_manifest_that_follows_nonsense_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, follows: object
) -> None:
    write_chain(tmp_path, 4, 8)
    directory = write_cut(tmp_path, 12, follows=follows)
    with pytest.raises(Corrupt, match=r"12/manifest\.json: follows: "):
        embedding_paths(directory)
    with caplog.at_level(logging.WARNING):
        found = newest_whole_cut(tmp_path, IDENTITY)
    assert found is not None and found.step == 8
    assert "12/manifest.json: follows: " in caplog.text


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=10), st.integers(1, 3))
def test_what_a_kept_cut_follows_is_kept_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, bases: list[bool], keep: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    links: Links = []
    written: list[set[int]] = []  # of each cut, the steps that hold its rows
    for step, is_base in enumerate(bases, start=1):
        if is_base:
            links = []
        links.append(link_to(write_cut(run_dir, step, follows=list(links))))
        written.append({link["step"] for link in links})
        prune_cuts(run_dir, keep)
        assert steps_in(run_dir) == set().union(*written[-keep:])
    shutil.rmtree(run_dir)


def test_an_interrupted_removal_leaves_no_delta_without_what_it_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chain(tmp_path / "whole", 1, 2, 3)
    write_chain(tmp_path / "whole", 4, 5)

    class Interrupted(BaseException):
        """Like a killed process: nothing that handles errors sees it."""

    left = set()
    for number in range(4):
        run_dir = shutil.copytree(tmp_path / "whole", tmp_path / f"{number}")
        calls = itertools.count()

        def remove_some(directory: Path, number: int = number, calls: Iterator[int] = calls) -> None:
            if next(calls) == number:
                raise Interrupted
            shutil.rmtree(directory)

        monkeypatch.setattr(cuts, "remove_cut", remove_some)
        with contextlib.suppress(Interrupted):
            prune_cuts(run_dir, 1)
        for step in steps_in(run_dir):
            cuts.CutReader().whole(run_dir / "cuts" / str(step))
        left.add(len(steps_in(run_dir)))
    assert left == {5, 4, 3, 2}


def manifest_of(size: int) -> Manifest:
    sizes = {"embedding-0.safetensors": size, "dense.safetensors": 10**9}  # the network is in every cut
    parts = [Part(path=name, size=each, sha256="a" * 64) for name, each in sizes.items()]
    return Manifest.model_validate(
        {
            "kind": "cut",
            "digest": digest_of(parts),
            "parts": parts,
            "schema_fingerprint": "",
            "lineage": {"dataset": "", "ds": "", "config_digest": "", "code_version": ""},
        }
    )


@pytest.mark.parametrize(
    ("base_every", "delta", "kinds"),
    [
        (1, 1, ["full"] * 5),
        (2, 1, ["base", "delta", "base", "delta", "base"]),
        (4, 1, ["base", "delta", "delta", "delta", "base"]),
        (9, 50, ["base", "delta", "delta", "base", "delta"]),  # the deltas have come to the size of the base
        (9, 100, ["base", "delta", "base", "delta", "base"]),
    ],
)
def test_a_base_comes_after_so_many_cuts_or_so_many_bytes(
    base_every: int, delta: int, kinds: list[str]
) -> None:
    chain, found = GrowingChain(base_every), []
    follows: list[int] = []
    for step in range(1, 6):
        kind = chain.next_kind()
        found.append(kind)
        if kind != "delta":
            follows = []
        assert [link.step for link in chain.beneath(kind)] == follows
        chain.add(kind, step, manifest_of(delta if kind == "delta" else 100))
        follows.append(step)
    assert found == kinds


def test_a_chain_that_is_compacted_ends_where_a_base_would_have_come() -> None:
    chain, ends = GrowingChain(3, compact=True), []
    for step in range(1, 9):
        kind = chain.next_kind()
        assert kind == ("delta" if step > 1 else "base")
        if chain.compacts_next:
            ends.append(step)
            kind = "base"
        chain.add(kind, step, manifest_of(1 if kind == "delta" else 100))
    assert ends == [4, 7]


def test_after_a_cut_that_failed_comes_a_base() -> None:
    chain = GrowingChain(8)
    chain.add(chain.next_kind(), 1, manifest_of(100))
    assert chain.next_kind() == "delta"
    chain.break_off()
    assert chain.next_kind() == "base" and chain.beneath("base") == []
