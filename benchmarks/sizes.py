"""How much is measured: the full size, and one that only shows that the programs work."""

from dataclasses import dataclass, replace

FEATURES = 26
SAMPLES = 4096


@dataclass(frozen=True)
class Size:
    """Tables, batches and repetitions of one run."""

    table_rows: tuple[int, ...]
    dims: tuple[int, ...]
    batch: int  # ids
    batches: int  # drawn, of which every round takes others
    per_sample: int  # batches that one measured value is the mean of
    rounds: int
    openings: int  # how often the tables are made anew within the rounds
    tries: int  # of a round while others use the machine
    served_batches: int  # per round, after a prefill of the largest table
    memory_rows: tuple[int, ...]

    def with_changes(
        self, rows: list[int] | None, dims: list[int] | None, rounds: int | None, tries: int | None
    ) -> "Size":
        """Another size, where something is given."""
        return replace(
            self,
            table_rows=tuple(rows) if rows else self.table_rows,
            dims=tuple(dims) if dims else self.dims,
            rounds=rounds or self.rounds,
            tries=tries or self.tries,
            memory_rows=tuple(n for n in self.memory_rows if not rows or n <= max(rows))
            or (max(rows or [0]),),
        )


FULL = Size(
    table_rows=(1_000_000, 10_000_000),
    dims=(16, 64, 128),
    batch=SAMPLES * FEATURES,
    batches=60,
    per_sample=10,
    rounds=15,
    openings=3,
    tries=2,
    served_batches=240,
    memory_rows=(100_000, 1_000_000, 4_000_000),
)
SMALL = Size(
    table_rows=(20_000,),
    dims=(16, 64, 128),
    batch=64 * FEATURES,
    batches=6,
    per_sample=2,
    rounds=2,
    openings=2,
    tries=1,
    served_batches=6,
    memory_rows=(100_000,),
)
