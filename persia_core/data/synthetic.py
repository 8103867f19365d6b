"""The synthetic click log: days of clicks drawn from a planted model, whose best possible AUC is known.

logit = bias + user + item(day) + category + country + device + mean(tags) + <user vector, item vector>
        + price effect + position effect + hour of the day; label ~ Bernoulli(sigmoid(logit))

Ids are Zipf distributed over configurable vocabularies. From day to day the item effects wander (a
stationary random walk) and some items are replaced by new ones, so that a model which stops learning
grows worse. Everything is a pure function of (seed, day, row), whatever the number of days.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from persia_core.data.days import DaySummary, raw_day
from persia_core.handoff.layout import check_ds

log = logging.getLogger(__name__)

CHUNK_ROWS = 1 << 16
GRID = 1 << 20  # probabilities are multiples of 1 / GRID, so that their AUC can be counted exactly
MAX_TAGS = 5
COLUMNS = (
    "timestamp",
    "user_id",
    "item_id",
    "category",
    "country",
    "device",
    "tags",
    "price",
    "position",
    "label",
)
_WORLD, _DRIFT, _ROWS = 0, 1, 2  # first word of each random stream's key


@dataclass(frozen=True)
class Vocabularies:
    """Number of distinct values at any one time, and the exponent of their Zipf distribution."""

    users: int = 20_000
    items: int = 5_000
    categories: int = 60
    countries: int = 40
    devices: int = 6
    tags: int = 120
    exponent: float = 1.05
    replaced_items_share: float = 0.02  # per day
    drift: float = 0.25  # share of an item's standard deviation that one day adds


@dataclass(frozen=True)
class Chunk:
    """n consecutive rows of a day: `table` has COLUMNS, `probability` float64 [n] made its labels."""

    table: pa.Table
    probability: NDArray[np.float64]


class SyntheticLog:
    """The planted model and the days it produces."""

    def __init__(self, seed: int, vocabularies: Vocabularies | None = None) -> None:
        self.seed = seed
        self.sizes = vocabularies or Vocabularies()
        sizes = self.sizes
        rng = np.random.default_rng([_WORLD, seed])
        self._bias = -1.1
        self._user = rng.normal(0, 0.8, sizes.users)
        self._category = rng.normal(0, 0.4, sizes.categories)
        self._country = rng.normal(0, 0.3, sizes.countries + 1)  # the last stands for a missing one
        self._device = rng.normal(0, 0.4, sizes.devices)
        self._tag = rng.normal(0, 0.5, sizes.tags)
        self._user_vector = rng.normal(0, 0.5, (sizes.users, 4))
        self._item_vector = rng.normal(0, 0.5, (sizes.items, 4))
        self._item_of_day = [rng.normal(0, 0.9, sizes.items)]
        self._generation_of_day = [np.zeros(sizes.items, dtype=np.int64)]
        self._cumulative = {
            n: _zipf(n, sizes.exponent)
            for n in {sizes.users, sizes.items, sizes.categories, sizes.countries, sizes.devices, sizes.tags}
        }

    def chunks(self, day: int, rows: int, first_second: int) -> Iterator[Chunk]:
        """The rows of day 0, 1, ... in order of time, the first at or after `first_second` (Unix)."""
        effect, generation = self._items(day)
        for number, start in enumerate(range(0, rows, CHUNK_ROWS)):
            n = min(CHUNK_ROWS, rows - start)
            rng = np.random.default_rng([_ROWS, self.seed, day, number])
            within = (start + np.arange(n) + rng.random(n)) / rows
            seconds = first_second + np.minimum(within * 86_400, 86_399).astype(np.int64)
            yield self._chunk(rng, seconds, effect, generation)

    def _items(self, day: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Effect and generation of the item in each slot on a day; a new generation is a new item."""
        while len(self._item_of_day) <= day:
            rng = np.random.default_rng([_DRIFT, self.seed, len(self._item_of_day)])
            before, drift = self._item_of_day[-1], self.sizes.drift
            wandered = np.sqrt(1 - drift**2) * before + drift * rng.normal(0, 0.9, before.size)
            new = rng.random(before.size) < self.sizes.replaced_items_share
            self._item_of_day.append(np.where(new, rng.normal(0, 0.9, before.size), wandered))
            self._generation_of_day.append(self._generation_of_day[-1] + new)
        return self._item_of_day[day], self._generation_of_day[day]

    def _draw(self, rng: np.random.Generator, vocabulary: int, n: int) -> NDArray[np.int64]:
        return np.searchsorted(self._cumulative[vocabulary], rng.random(n), side="right")

    def _chunk(
        self,
        rng: np.random.Generator,
        seconds: NDArray[np.int64],
        item_effect: NDArray[np.float64],
        generation: NDArray[np.int64],
    ) -> Chunk:
        n, sizes = seconds.size, self.sizes
        user = self._draw(rng, sizes.users, n)
        item = self._draw(rng, sizes.items, n)
        category = self._draw(rng, sizes.categories, n)
        device = self._draw(rng, sizes.devices, n)
        country = np.where(rng.random(n) < 0.02, sizes.countries, self._draw(rng, sizes.countries, n))
        bag = rng.integers(0, MAX_TAGS + 1, n)
        bounds: Any = np.concatenate([[0], np.cumsum(bag)]).astype(np.int32)
        tags = self._draw(rng, sizes.tags, int(bounds[-1]))
        price = np.round(np.exp(rng.normal(2.5, 1.0, n)), 2)
        no_price = rng.random(n) < 0.03
        position = rng.integers(1, 11, n)

        tag_sums = np.diff(np.concatenate([[0.0], np.cumsum(self._tag[tags])])[bounds])
        logit = self._bias + self._user[user] + item_effect[item] + self._category[category]
        logit += self._country[country] + self._device[device] + tag_sums / np.maximum(bag, 1)
        logit += np.einsum("ij,ij->i", self._user_vector[user], self._item_vector[item])
        logit += np.where(no_price, 0.0, -0.3 * (np.log1p(price) - 2.6))
        logit += -0.08 * (position - 5.5) + 0.2 * np.sin(2 * np.pi * (seconds % 86_400 // 3600) / 24)
        steps = np.clip(np.round(GRID / (1 + np.exp(-logit))), 1, GRID - 1)
        probability = steps / GRID
        label = rng.random(n) < probability

        columns = [
            pa.array(seconds),
            _names("u", pa.array(user)),
            _names("i", pa.array(item), pa.array(generation[item])),
            _names("c", pa.array(category)),
            _names("k", pa.array(country, mask=country == sizes.countries)),
            _names("d", pa.array(device)),
            pc.binary_join(pa.ListArray.from_arrays(bounds, _names("t", pa.array(tags))), " "),
            pa.array(price, mask=no_price),
            pa.array(position),
            pa.array(label.astype(np.int8)),
        ]
        return Chunk(pa.table(columns, names=list(COLUMNS)), probability)


class GridAuc:
    """The AUC of probabilities that are multiples of 1 / GRID: exact, in memory that does not grow."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, GRID + 1), dtype=np.int64)

    def add(self, labels: NDArray[np.int8], probability: NDArray[np.float64]) -> None:
        """Count rows; shapes [n]."""
        steps = np.round(probability * GRID).astype(np.int64)
        for label in (0, 1):
            self._counts[label] += np.bincount(steps[labels == label], minlength=GRID + 1)

    @property
    def positives(self) -> int:
        return int(self._counts[1].sum())

    def auc(self) -> float | None:
        """P(probability of a click > that of no click), ties half; None without rows of both classes."""
        negative, positive = self._counts.astype(np.float64)
        pairs = negative.sum() * positive.sum()
        if not pairs:
            return None
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / pairs)


def synthesize(
    out: Path,
    rows_per_day: int,
    days: int,
    seed: int,
    first_day: str = "2026-01-01",
    *,
    vocabularies: Vocabularies | None = None,
    first_day_rows: int | None = None,
) -> list[DaySummary]:
    """Write `<out>/ds=<day>/clicks.csv.gz` for consecutive days; equal arguments give equal bytes.

    Every day has exactly `rows_per_day` rows, except the first if `first_day_rows` is given (a longer
    bootstrap). `best_auc` of a day is the AUC of the true probabilities on its rows: no model can be
    expected to do better. Memory is bounded by CHUNK_ROWS and the vocabularies. Raises ValueError for a
    negative number or a date that is none.
    """
    if min(rows_per_day, days, seed, first_day_rows or 0) < 0:
        raise ValueError("rows, days and seed must not be negative")
    log_of_clicks = SyntheticLog(seed, vocabularies)
    start = datetime.fromisoformat(check_ds(first_day)).replace(tzinfo=UTC)
    summaries = []
    for day in range(days):
        moment = start + timedelta(days=day)
        rows = first_day_rows if day == 0 and first_day_rows is not None else rows_per_day
        best = GridAuc()
        with raw_day(out, moment.date().isoformat(), "clicks") as (path, packed):
            packed.write((",".join(COLUMNS) + "\n").encode())
            for chunk in log_of_clicks.chunks(day, rows, int(moment.timestamp())):
                best.add(chunk.table["label"].to_numpy(), chunk.probability)
                _write_csv(chunk.table, packed)
        summaries.append(DaySummary(moment.date().isoformat(), path, rows, best.positives, best.auc()))
        log.info("wrote %s: %d rows, best possible AUC %s", path, rows, summaries[-1].best_auc)
    return summaries


def _write_csv(table: pa.Table, file: BinaryIO) -> None:
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    pyarrow.csv.write_csv(table, sink, options)
    file.write(sink.getvalue())


def _names(letter: str, *numbers: Any) -> Any:
    texts = [pc.cast(number, pa.string()) for number in numbers]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "g")
    return pc.binary_join_element_wise(letter, joined, "")


def _zipf(n: int, exponent: float) -> NDArray[np.float64]:
    """Cumulative probabilities of ranks 1..n, P(rank) proportional to rank ** -exponent; shape [n]."""
    cumulative = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -exponent)
    cumulative /= cumulative[-1]
    cumulative[-1] = 1.0
    return cumulative
