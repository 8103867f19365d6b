"""What a configuration asks of the cluster: ranks, and bytes per embedding server."""

from dataclasses import dataclass

from persia_core.config.features import ROW_OVERHEAD_BYTES
from persia_core.config.model import ModelConfig


@dataclass(frozen=True)
class TablePlan:
    """One embedding table: bytes of a row, rows and bytes expected on each server."""

    name: str
    dim: int
    bytes_per_row: int
    rows_per_server: int
    bytes_per_server: int


@dataclass(frozen=True)
class Plan:
    """The ranks of the MPI job, in order, and what each server will hold."""

    ranks: int
    servers: int
    embedding_workers: int
    trainers: int
    tables: list[TablePlan]

    @property
    def bytes_per_server(self) -> int:
        return sum(table.bytes_per_server for table in self.tables)


def plan_of(config: ModelConfig) -> Plan:
    """The plan of a configuration; rows are each table's `expected_rows`, at most what its capacity holds."""
    servers = config.cluster.servers
    tables = []
    for table in config.tables:
        row = table.row_bytes + ROW_OVERHEAD_BYTES
        rows = -(-table.expected_rows // servers)
        if table.capacity_bytes is not None:
            rows = min(rows, table.capacity_bytes // row)
        tables.append(TablePlan(table.name, table.dim, row, rows, row * rows))
    cluster = config.cluster
    ranks = servers + cluster.embedding_workers + cluster.trainers
    return Plan(ranks, servers, cluster.embedding_workers, cluster.trainers, tables)
