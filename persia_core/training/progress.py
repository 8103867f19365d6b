"""One plain progress line every few seconds."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Progress:
    """Counts towards `total` and logs a line at most every `every_s` seconds."""

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        *,
        quiet: bool = False,
        every_s: float = 5.0,
        done: int = 0,
    ) -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._quiet = quiet
        self._every_s = every_s
        self._started = self._last = time.monotonic()
        self._done = self._done_before = done

    def advance(self, count: int, extra: Callable[[], str] | None = None) -> None:
        """`count` more are done; `extra` is asked for more words only when a line is due."""
        self._done += count
        now = time.monotonic()
        if self._quiet or now - self._last < self._every_s:
            return
        self._last = now
        rate = (self._done - self._done_before) / (now - self._started)
        share = 100.0 * self._done / self._total if self._total else 100.0
        more = f", {extra()}" if extra else ""
        log.info(
            "%s: %d of %d %s (%.0f %%), %.0f %s/s%s",
            self._what,
            self._done,
            self._total,
            self._unit,
            share,
            rate,
            self._unit,
            more,
        )
