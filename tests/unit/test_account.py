"""Every visit of a row is trained or skipped, and the limit on skipped ones is the configured share."""

import numpy as np
import pytest

from persia_core.training.account import NON_FINITE, Account


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
