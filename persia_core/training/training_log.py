"""What is seen of a training while it runs: metrics.jsonl, TensorBoard, and one line every few seconds."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from persia_core.checkpoint.layout import METRICS_LINES, TENSORBOARD
from persia_core.training.account import Account
from persia_core.training.progress import Progress
from persia_core.training.step_times import StepTimes

POINTS = 200  # of a curve

Details = Callable[[], dict[str, Any]]


class TrainingLog:
    """Trainer 0 writes; of the losses, those of its own samples. On the other trainers nothing happens.

    If the account has steps already, the lines of an earlier attempt up to there are kept.

    A line of metrics.jsonl: `step` (of this run), `loss` (mean since the line before), `samples_per_second`
    (of all trainers), `staleness` (mean number of outstanding batches of this trainer), and what `details`
    gives: `learning_rates`, `loss_scale`.
    """

    def __init__(
        self,
        run_dir: Path,
        account: Account,
        first_step: int,
        lead: bool,
        tensorboard: bool,
        times: StepTimes | None = None,
    ) -> None:
        """The time of each step is counted in `times`."""
        self._times = times or StepTimes()
        self._run_dir = run_dir
        self._account = account
        self._first_step = first_step
        self._lead = lead
        self._tensorboard = tensorboard
        self._every = max(1, account.steps // POINTS)
        self._progress = Progress("training", account.steps, "steps", quiet=not lead, done=account.steps_done)
        self._lines: Any = None
        self._writer: Any = None
        self._last: dict[str, Any] = {}
        self._begin()

    def __enter__(self) -> "TrainingLog":
        if self._lead:
            path = self._run_dir / METRICS_LINES
            _keep_lines(path, self._account.steps_done)
            self._lines = path.open("a")
        if self._lead and self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            begin = self._first_step + self._account.steps_done
            self._writer = SummaryWriter(str(self._run_dir / TENSORBOARD), purge_step=begin)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._lines, self._writer):
            if each is not None:
                each.close()

    def state_dict(self) -> dict[str, float]:
        """What has come since the last line, for a cut."""
        return {
            "loss": self._loss_sum,
            "loss_weight": self._loss_weight,
            "outstanding": self._outstanding,
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from what `state_dict` gave; how long it took to get there is not known any more."""
        self._loss_sum, self._loss_weight = float(state["loss"]), float(state["loss_weight"])
        self._outstanding, self._steps = int(state["outstanding"]), int(state["steps"])

    def step(self, number: int, samples: int, outstanding: int, details: Details) -> None:
        """Step `number` of the run is done or was skipped; it had so many samples over all trainers."""
        if not self._lead:
            return
        self._times.step()
        self._samples += samples
        self._outstanding += outstanding
        self._steps += 1
        if (number + 1) % self._every == 0 or number + 1 == self._account.steps:
            self._point(number, details())
        self._progress.advance(1, self._words)

    def loss(self, loss_sum: float, weight: float) -> None:
        """This trainer's weighted sum of losses in a step that was not skipped, and its sum of weights."""
        self._loss_sum += loss_sum
        self._loss_weight += weight

    def _begin(self) -> None:
        self._loss_sum = self._loss_weight = 0.0
        self._samples = self._outstanding = self._steps = 0
        self._since = time.monotonic()

    def _point(self, number: int, details: dict[str, Any]) -> None:
        mean = self._loss_sum / self._loss_weight if self._loss_weight else None
        if mean is not None:
            self._account.losses.append((number, mean))
        point = {
            "step": number,
            "loss": mean,
            "samples_per_second": round(self._samples / max(time.monotonic() - self._since, 1e-9), 1),
            "staleness": round(self._outstanding / self._steps, 3),
            **details,
        }
        self._lines.write(json.dumps(point) + "\n")
        self._lines.flush()
        if self._writer is not None:
            for name, value in _scalars(point):
                self._writer.add_scalar(name, value, self._first_step + number)
        self._last = point
        self._begin()

    def _words(self) -> str:
        loss = self._loss_sum / self._loss_weight if self._loss_weight else self._last.get("loss")
        rate = self._last.get("samples_per_second")
        words = ["no loss yet" if loss is None else f"loss {loss:.4f}"]
        return ", ".join([*words, *([f"{rate:.0f} samples/s"] if rate is not None else [])])


def _keep_lines(path: Path, steps: int) -> None:
    """Leave the lines of the steps before `steps`."""
    kept = []
    if steps and path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith("\n") or int(json.loads(line)["step"]) >= steps:
                break
            kept.append(line)
    path.write_text("".join(kept))


def _scalars(point: dict[str, Any], prefix: str = "train") -> list[tuple[str, float]]:
    """The numbers of a point by name, `train/learning_rates/dense` and so on."""
    found = []
    for name, value in point.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}/{name}")
        elif value is not None and name != "step":
            found.append((f"{prefix}/{name}", float(value)))
    return found
