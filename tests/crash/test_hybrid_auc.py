"""In mode hybrid a run that is killed and tried again is as good a model as one that nobody disturbed.

Hybrid has no bits to compare: gradients arrive in another order in every run. So the AUC on a fixed test set
is compared, by `benchmarks.killed_hybrid` over many kills and seeds (`make killed-auc`), and here once.
"""

from pathlib import Path

import pytest

from persia_core.exit_codes import ExitCode
from tests.support.killed_hybrid import SUITE, HybridDay

pytestmark = pytest.mark.mpi

ALLOWED = 0.0005  # 0.05 %, absolute; runs of one seed that nobody disturbs differ by some 0.0001


def test_the_auc_after_a_kill_and_a_retry_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    day = HybridDay(tmp_path, SUITE, seed=1)
    whole = day.train("whole")
    killed = day.train("killed", kills=1)
    assert whole.codes == [ExitCode.OK] and killed.codes == [ExitCode.RANK_FAILED, ExitCode.OK]
    assert whole.resumed_at == [] and len(killed.resumed_at) == 1, "it went on from a cut"
    assert whole.auc > 0.7, "it has learned something that could be lost"
    assert abs(killed.auc - whole.auc) <= ALLOWED
