"""Every visit of a row is trained or skipped, and the limit on skipped ones is the configured share."""

import json

import numpy as np
import pytest

from persia_core.training.account import NON_FINITE, OVERFLOW, Account


@pytest.mark.parametrize(
    ("epochs", "share", "skipped", "too_many"),
    [
        (1, 0.02, 2, True),  # 66 rows in steps of 64: the short last step is no epoch of its own
        (1, 0.04, 2, False),
        (2, 0.02, 2, False),
        (2, 0.01, 2, True),
        (1, 0.0, 1, True),
    ],
)
def test_the_limit_is_a_share_of_the_visits(epochs: int, share: float, skipped: int, too_many: bool) -> None:
    account = Account(rows=66, steps=2 * epochs, epochs=epochs)
    account.trained(np.arange(64))
    account.skipped(np.arange(64, 64 + skipped), NON_FINITE)
    assert account.too_many_skipped(share) is too_many


def test_a_row_skipped_in_two_epochs_is_one_row_and_two_visits() -> None:
    account = Account(rows=10, steps=4, epochs=2)
    for rows in ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]):
        account.trained(np.arange(5, 10))
        account.skipped(np.array(rows), NON_FINITE)
    found = account.to_dict()
    assert (found["rows_in"], found["rows_trained"], found["rows_skipped"]) == (10, 5, {NON_FINITE: 5})
    assert found["visits"] == {"trained": 10, "skipped": 10}


class Group:
    """Trainers of one process that gather what they have: one array each, in turn."""

    def __init__(self, trainers: int) -> None:
        self.trainers = trainers

    def merged(self, accounts: list[Account]) -> Account:
        """What `together` gives trainer 0. The others tell what they have first, then trainer 0."""
        told: list[list[np.ndarray]] = []

        class Teller:
            def gather(self, values: np.ndarray) -> None:
                told[-1].append(values)

        for account in accounts[1:]:
            told.append([])
            account.together(Teller())  # type: ignore[arg-type]

        class Hearer:
            def __init__(self) -> None:
                self.call = -1

            def gather(self, values: np.ndarray) -> list[np.ndarray]:
                self.call += 1
                return [values, *(each[self.call] for each in told)]

        return accounts[0].together(Hearer())  # type: ignore[arg-type]


@pytest.mark.parametrize("shares", [(1, 1), (3, 3), (3, 2), (2, 4), (1, 3), (4, 1)])
def test_an_account_goes_on_with_other_keepers_as_if_nothing_had_been(shares: tuple[int, int]) -> None:
    """Each keeper has its piece of a step of 12 rows; every fifth step is skipped, for some reason."""
    rows, epochs, cut = 120, 2, 9

    def count(accounts: list[Account], steps: range) -> None:
        for step in steps:
            all_rows = np.arange(12) + step % 10 * 12
            for keeper, account in enumerate(accounts):
                own = all_rows[12 * keeper // len(accounts) : 12 * (keeper + 1) // len(accounts)]
                if step % 5 == 0:
                    account.skipped(own, NON_FINITE if step % 2 else OVERFLOW)
                else:
                    account.trained(own)
                account.ids_truncated += int(own.sum())

    def make(keepers: int) -> list[Account]:
        return [Account(rows, 20, epochs, keepers) for _ in range(keepers)]

    whole = make(1)
    count(whole, range(20))
    first = make(shares[0])
    count(first, range(cut))
    at_cut = Group(shares[0]).merged(first)
    state, skipped = json.loads(json.dumps(at_cut.state_dict())), at_cut.rows_skipped_by
    second = make(shares[1])
    for keeper, account in enumerate(second):
        account.load_state_dict(state, skipped, keeper)
    count(second, range(cut, 20))
    found = Group(shares[1]).merged(second)
    assert found.to_dict() == Group(1).merged(whole).to_dict()
    for share in (0.0, 0.1, 0.2, 0.3):
        assert found.too_many_skipped(share) == whole[0].too_many_skipped(share)
