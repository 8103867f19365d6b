"""A trainer's calls through the service of an embedding worker: as on the native worker, errors included."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persia_core import _native
from persia_core.embedding.interface import Ready
from persia_core.embedding.remote.carried_errors import carried_error, error_fields
from persia_core.embedding.remote.message import Message
from persia_core.embedding.remote.tables import RemoteTables
from persia_core.embedding.tables import feature_specs, table_specs
from persia_core.errors import Corrupt, DataInvalid, DiskFull, PersiaError, RankHung
from tests.support.queue_line import QueueLine
from tests.support.served import Numbered, Trainer, served
from tests.support.small_config import small_config
from tests.unit.test_pipeline import FEATURES, batches, no_threads_left, ones

CONFIG = small_config()


@pytest.fixture
def worker() -> _native.EmbeddingWorker:
    return _native.EmbeddingWorker(
        transport="in-process", servers=2, tables=table_specs(CONFIG), features=feature_specs(CONFIG),
        trainer=0, trainers=1, staleness=2, combine=False, seed=1, timeout_s=20.0,
    )  # fmt: skip


def nothing(_: dict[str, Any]) -> Iterator[Numbered]:
    return iter(())


def test_requests_are_answered_while_batches_are_under_way(worker: _native.EmbeddingWorker) -> None:
    """A save that was begun before is asked for so."""
    with served(worker, 2, lambda _: batches(5)) as trainer:
        trainer.tables.configure()
        with trainer.pipeline() as pipeline:
            for number, ready in enumerate(pipeline):
                if number == 1:
                    (first, *_) = trainer.tables.stats()
                    assert int(str(first["requests"]["LOOKUP"])) >= 2  # type: ignore[index]
                    with pytest.raises(_native.ServerError, match="NO_SAVE"):
                        trainer.tables.finish_save()
                pipeline.update(ready, ones(), 1.0)
            pipeline.drain()


def test_every_call_does_what_the_native_worker_does(worker: _native.EmbeddingWorker, tmp_path: Path) -> None:
    with served(worker, 2, lambda _: batches(5)) as trainer:
        trainer.tables.configure()
        with trainer.pipeline() as pipeline:
            for ready in pipeline:
                pipeline.update(ready, ones(), 1.0)
            pipeline.drain()
        assert without_requests(trainer.tables.stats()) == without_requests(worker.stats())
        for batch in batches(7):
            found = trainer.tables.read(batch.data.ids, batch.data.offsets).pooled
            expected = worker.lookup(0, batch.data.ids, batch.data.offsets, False).pooled
            assert len(found) == FEATURES
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        trainer.tables.advance_day(20_000)
        saved = trainer.tables.save(str(tmp_path))
        again = tmp_path / "again"
        again.mkdir()
        assert saved == worker.save(str(again))
        for entry in saved:
            name = str(entry["name"])
            assert (tmp_path / name).read_bytes() == (again / name).read_bytes()
        parts = [str(tmp_path / str(entry["name"])) for entry in saved]
        with pytest.raises(_native.ServerError, match="server rank 0: LOAD: NOT_EMPTY"):
            trainer.tables.load(parts)
        trainer.tables.shutdown()


def without_requests(stats: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Asking for counters changes those of requests."""
    return [{k: v for k, v in server.items() if k not in ("requests", "buffered")} for server in stats]


def test_rows_of_parts_are_loaded(worker: _native.EmbeddingWorker, tmp_path: Path) -> None:
    worker.configure()
    for batch in batches(7):
        worker.discard(worker.lookup(batch.number, batch.data.ids, batch.data.offsets, True))
    parts = [str(tmp_path / str(entry["name"])) for entry in worker.save(str(tmp_path))]
    other = _native.EmbeddingWorker(
        transport="in-process", servers=3, tables=table_specs(CONFIG), features=feature_specs(CONFIG),
        trainer=0, trainers=1, staleness=2, combine=False, seed=2, timeout_s=20.0,
    )  # fmt: skip
    with served(other, 2, nothing) as trainer:
        trainer.tables.configure()
        loaded = trainer.tables.load(parts)
        assert sum(int(str(entry["rows"])) for entry in loaded) == 7 * len(CONFIG.tables)
        for batch in batches(7):
            found = trainer.tables.read(batch.data.ids, batch.data.offsets).pooled
            expected = worker.lookup(0, batch.data.ids, batch.data.offsets, False).pooled
            assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


def test_a_request_of_no_meaning_is_refused_and_the_next_one_served(worker: _native.EmbeddingWorker) -> None:
    with served(worker, 2, nothing) as trainer:
        with pytest.raises(ValueError, match="'dance', which means nothing here"):
            trainer.tables.call(Message("dance"))
        trainer.tables.configure()


def test_data_that_cannot_be_read_is_named_with_its_code_and_remedy(worker: _native.EmbeddingWorker) -> None:
    def damaged(_: dict[str, Any]) -> Iterator[Numbered]:
        yield from batches(2)
        raise Corrupt("part-0: row group 3", "hash the day again")

    def refused(_: dict[str, Any]) -> Iterator[Numbered]:
        raise DataInvalid("another partition", "give all hosts the same")

    worker.configure()
    with (
        served(worker, 2, damaged) as trainer,
        pytest.raises(Corrupt, match="row group 3\n  what to do: hash the day again"),
        trainer.pipeline() as pipeline,
    ):
        for ready in pipeline:
            pipeline.discard(ready)
    with (
        served(worker, 2, refused) as trainer,
        pytest.raises(DataInvalid, match="another partition"),
        trainer.pipeline(),
    ):
        pass
    assert no_threads_left()


def test_an_update_of_a_batch_that_is_not_held_is_refused(worker: _native.EmbeddingWorker) -> None:
    worker.configure()
    with served(worker, 2, lambda _: batches(3)) as trainer:
        pipeline = trainer.pipeline()
        with pytest.raises(KeyError), pipeline:
            for ready in pipeline:
                pipeline.discard(ready)
                pipeline.discard(ready)
            pipeline.drain()


def test_a_worker_that_does_not_answer_is_named_with_the_operation() -> None:
    here, _ = QueueLine.pair("trainer 0", "embedding worker 1 (rank 3)")
    tables = RemoteTables(here, timeout_s=0.05)
    with pytest.raises(RankHung, match=r"embedding worker 1 \(rank 3\): stats: no answer within 0\.1 s"):
        tables.stats()


def test_a_worker_that_sends_no_batches_is_named_and_the_pipeline_ends() -> None:
    control, control_there = QueueLine.pair("trainer 0", "embedding worker 0")
    lines, _ = QueueLine.pair("trainer 0", "embedding worker 0")
    control_there.send(Message("done"), 1.0)  # it begins, and is heard of no more
    trainer = Trainer(RemoteTables(control, 1.0), lines, staleness=1)
    with (
        pytest.raises(RankHung, match="embedding worker 0: the next batch: no answer within"),
        trainer.pipeline(timeout_s=0.05) as pipeline,
    ):
        next(iter(pipeline))
    assert no_threads_left()


def test_no_batch_is_due_while_the_trainer_has_all_of_them(worker: _native.EmbeddingWorker) -> None:
    worker.configure()
    timeout_s = 0.7  # so a batch that is due must come within 2.1 s
    with served(worker, 1, lambda _: batches(2)) as trainer, trainer.pipeline(timeout_s) as pipeline:
        taken = iter(pipeline)
        first = next(taken)
        ahead: queue.Queue[Ready[Numbered]] = queue.Queue()
        asking = threading.Thread(target=lambda: ahead.put(next(taken)))
        asking.start()
        asking.join(timeout=2.5)
        assert ahead.empty(), "there is one permit"
        pipeline.discard(first)
        second = ahead.get(timeout=20)
        assert second.batch.number == 1
        pipeline.discard(second)
        asking.join()


def test_a_worker_that_never_ends_the_pipeline_is_named_also_without_another_error() -> None:
    control, control_there = QueueLine.pair("trainer 0", "embedding worker 0")
    lines, _ = QueueLine.pair("trainer 0", "embedding worker 0")
    control_there.send(Message("done"), 1.0)
    trainer = Trainer(RemoteTables(control, 1.0), lines, staleness=1)
    with (
        pytest.raises(RankHung, match="embedding worker 0: the end of the batches: no answer within"),
        trainer.pipeline(timeout_s=0.05),
    ):
        pass
    assert no_threads_left()


@pytest.mark.parametrize(
    "make",
    [
        lambda: _native.ServerError("server rank 0: SAVE: NO_SPACE: /x: no space left"),
        lambda: _native.TransportError("server rank 0: LOOKUP: no answer within 2 s"),
        lambda: ValueError("the gradient of feature 1 is not finite"),
        lambda: OSError(28, "No space left on device"),
        lambda: OSError("the disk is gone"),
        lambda: DiskFull("no space", "make some"),
    ],
)
def test_an_error_arrives_as_what_it_was(make: Callable[[], Exception]) -> None:
    error = make()
    found = carried_error(error_fields(error), "embedding worker 0")
    assert type(found) is type(error)
    assert str(found) == str(error)
    if isinstance(error, OSError):
        assert isinstance(found, OSError) and found.errno == error.errno
    if isinstance(error, PersiaError):
        assert isinstance(found, PersiaError) and found.exit_code == error.exit_code


def test_an_error_of_a_class_that_is_not_known_says_which_it_was() -> None:
    found = carried_error(error_fields(ZeroDivisionError("by zero")), "embedding worker 0")
    assert type(found) is RuntimeError
    assert str(found) == "ZeroDivisionError: by zero"
    assert "embedding worker 0" in found.__notes__[0]
