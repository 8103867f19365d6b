"""Who does what in a job."""

import pytest

from persia_core.launch.roles import Roles


@pytest.mark.parametrize("roles", [Roles(2, 0, 3), Roles(1, 1, 1), Roles(3, 2, 5), Roles(1, 4, 4)])
def test_ranks_are_servers_then_embedding_workers_then_trainers(roles: Roles) -> None:
    expected = [f"embedding server {n}" for n in range(roles.servers)]
    expected += [f"embedding worker {n}" for n in range(roles.embedding_workers)]
    expected += [f"trainer {n}" for n in range(roles.trainers)]
    assert [roles.name(rank) for rank in range(roles.ranks)] == expected
    for worker in range(roles.embedding_workers):
        assert roles.name(roles.rank_of_worker(worker)) == f"embedding worker {worker}"
    for trainer in range(roles.trainers):
        assert roles.name(roles.rank_of_trainer(trainer)) == f"trainer {trainer}"


@pytest.mark.parametrize(("workers", "trainers"), [(1, 1), (1, 5), (2, 5), (3, 3), (3, 7)])
def test_every_trainer_is_served_by_one_worker_and_every_worker_has_its_share(
    workers: int, trainers: int
) -> None:
    roles = Roles(1, workers, trainers)
    served = [list(roles.trainers_of(worker)) for worker in range(workers)]
    assert sorted(trainer for each in served for trainer in each) == list(range(trainers))
    for worker, each in enumerate(served):
        assert all(roles.worker_of(trainer) == worker for trainer in each)
        assert len(each) in (trainers // workers, -(-trainers // workers))
