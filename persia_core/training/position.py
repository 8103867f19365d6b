"""Where in the data a run stands: the same for every number of trainers, readers and servers."""

from typing import Any

from persia_core.data.partition import LocalPartition
from persia_core.training.order import SampleOrder


def position_of(order: SampleOrder, step: int, partition: LocalPartition) -> dict[str, Any]:
    """The position of a run that has done the steps before `step` of `order`, for state.json.

    The order decides alone which rows are visited next (docs/decisions/0003-sample-order.md). `next` is where
    the first of them lies: file, row group in the file, row in the group, each from 0; null at the end.
    """
    complete = step >= order.steps
    epoch, visited = (order.epochs - 1, order.rows) if complete else order.visited(step)
    following = None
    if not complete:
        first = next(order.between(step, step + 1)).rows[0]
        file, group, row = partition.locate(int(first))
        following = {"file": file, "row_group": group, "row": row}
    return {
        "ds": partition.manifest.lineage.ds,
        "hashed_digest": partition.manifest.digest,
        "rows": order.rows,
        "steps": step,
        "epochs": order.epochs,
        "epoch": epoch,
        "rows_visited": visited,
        "next": following,
        "complete": complete,
    }
