"""Merging what the embedding servers saved of one table: each part ascends by id, and so does the whole."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from persia_core.checkpoint.tables import TableShard
from persia_core.errors import Corrupt

_BLOCK = 16_384  # rows of a part that are looked at together
_REMEDY = "the checkpoint was damaged or written by something else; train the partition again"


def merged(
    table: str, shards: list[TableShard], block: int = _BLOCK
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
    """All rows in ascending order of id, in pieces: ids uint64 [n], weights float32 [n, dim].

    At most `block` rows of each shard are in memory. Raises Corrupt, naming the table, if the ids of a shard
    do not ascend or an id stands in two of them.
    """
    starts = [0] * len(shards)
    last = -1
    while open_ := [number for number, shard in enumerate(shards) if starts[number] < len(shard.ids)]:
        windows = {n: np.asarray(shards[n].ids[starts[n] : starts[n] + block]) for n in open_}
        for window in windows.values():
            if (window[1:] < window[:-1]).any():
                raise Corrupt(f"table {table}: ids of a part are not ascending", _REMEDY)
        # What follows a window is above its last id, so up to the least of these nothing is missing.
        limit = min(window[-1] for window in windows.values())
        ids, weights = [], []
        for number, window in windows.items():
            count = int(np.searchsorted(window, limit, "right"))
            ids.append(window[:count])
            weights.append(shards[number].take(np.arange(starts[number], starts[number] + count)))
            starts[number] += count
        together = np.concatenate(ids)
        order = np.argsort(together, kind="stable")
        together = together[order]
        if int(together[0]) < last:
            raise Corrupt(f"table {table}: ids of a part are not ascending", _REMEDY)
        if int(together[0]) == last or (together[1:] == together[:-1]).any():
            raise Corrupt(f"table {table} has the same id twice", _REMEDY)
        last = int(together[-1])
        yield together, np.concatenate(weights)[order]
