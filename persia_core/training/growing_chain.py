"""Whether the next cut of an attempt is a base or a delta."""

from persia_core.checkpoint.cut_chain import Link
from persia_core.checkpoint.layout import is_embedding_part
from persia_core.checkpoint.write import SaveKind
from persia_core.handoff.manifest import Manifest


class GrowingChain:
    """The base of this attempt and the deltas after it, as far as they are complete.

    Every `base_every`-th cut is a base. One comes earlier when the deltas since the last one have come to as
    many bytes: whoever goes on from a cut has to read all of them, and they take their place on disk.
    """

    def __init__(self, base_every: int, compact: bool = False) -> None:
        """With `compact` what ends a chain is a delta too, which is made a base with all that it follows."""
        self._base_every = base_every
        self._compact = compact
        self._links: list[Link] = []
        self._base_bytes = self._delta_bytes = 0

    def next_kind(self) -> SaveKind:
        """Full where there are no deltas at all, so that the servers need not remember what changes."""
        if self._base_every == 1:
            return "full"
        if not self._links or (self._ends and not self._compact):
            return "base"
        return "delta"

    @property
    def compacts_next(self) -> bool:
        """Whether the next delta is to be made a base."""
        return self._compact and bool(self._links) and self._ends

    @property
    def _ends(self) -> bool:
        return len(self._links) >= self._base_every or self._delta_bytes >= self._base_bytes

    def beneath(self, kind: SaveKind) -> list[Link]:
        """What a cut of that kind follows, the base first."""
        return list(self._links) if kind == "delta" else []

    def add(self, kind: SaveKind, step: int, manifest: Manifest) -> None:
        """The cut is complete."""
        size = sum(part.size for part in manifest.parts if is_embedding_part(part.path))
        if kind == "delta":
            self._delta_bytes += size
        else:
            self._links, self._base_bytes, self._delta_bytes = [], size, 0
        self._links.append(Link(step=step, digest=manifest.digest))

    def break_off(self) -> None:
        """The next cut is a base of the servers; what they know of changes need not follow the last cut."""
        self._links = []
