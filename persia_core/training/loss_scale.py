"""Loss scaling for float16, with the rules of torch.amp.GradScaler.

GradScaler itself looks at an optimizer's parameters; here an overflow may be in the gradient of an
activation, on another trainer, and skips the update of rows too. The step finds it and says so.
"""

import math
from typing import Any

from persia_core.config.training import LossScaling


class LossScale:
    """The factor of the loss. An overflow lowers it; `growth_interval` steps without one raise it."""

    def __init__(self, rules: LossScaling) -> None:
        self._rules = rules
        self.scale = rules.initial
        self._without_overflow = 0

    @property
    def explains_overflow(self) -> bool:
        """Whether an overflow may be the doing of the scale: not if the scale makes gradients smaller."""
        return self.scale > 1.0

    def update(self, overflow: bool) -> None:
        """One more step, which was skipped if there was an `overflow`."""
        if overflow:
            self.scale *= self._rules.backoff_factor
            self._without_overflow = 0
            return
        self._without_overflow += 1
        if self._without_overflow == self._rules.growth_interval:
            raised = self.scale * self._rules.growth_factor
            if math.isfinite(raised):
                self.scale = raised
            self._without_overflow = 0

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step, for a checkpoint."""
        return {"scale": self.scale, "without_overflow": self._without_overflow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.scale = float(state["scale"])
        self._without_overflow = int(state["without_overflow"])
