"""Aliases: small objects that name a model version and move by compare-and-swap.

A champion pointer carries its own history, newest first: what it named before, and why. So pointer and
history change in one step, and nobody can write one without the other.
"""

import itertools
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from persia_core.errors import Corrupt
from persia_core.handoff.layout import alias_key, check_ds, check_name, version_ds
from persia_core.handoff.object_store import NotFound, ObjectStore

CANDIDATE = "candidate"
CHAMPION = "champion"
HISTORY = 100  # earlier values that a pointer carries; older ones are dropped

Action = Literal["published", "promoted", "forced", "rolled back"]


class Move(BaseModel):
    """One value that an alias had. `manifest_sha256` (hex) is of the bytes of the version's manifest.

    `at` is when it was set, UTC, ISO 8601; `promoted_by` who did it, where that was said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    ds: str
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reason: Annotated[str, Field(max_length=1000)]
    promoted_by: Annotated[str, Field(max_length=200)] | None = None
    action: Action = "promoted"
    at: str | None = None

    @model_validator(mode="after")
    def _version_is_of_its_partition(self) -> "Move":
        if version_ds(check_name("version", self.version)) != self.ds:
            raise ValueError(f"version {self.version} is not of partition {self.ds}")
        return self


class Pointer(Move):
    """The content of an alias.

    `newest_ds` is the newest partition that the alias ever named, None if it is `ds`: after a rollback
    it still says how far the alias had come. `history` is newest first.
    """

    previous: str | None = None
    newest_ds: str | None = None
    history: Annotated[list[Move], Field(max_length=HISTORY)] = []

    @model_validator(mode="after")
    def _consistent(self) -> "Pointer":
        if self.previous is not None:
            version_ds(check_name("version", self.previous))
        if self.newest_ds is not None and check_ds(self.newest_ds) < self.ds:
            raise ValueError(f"newest_ds {self.newest_ds} is older than the partition {self.ds}")
        return self

    @property
    def front(self) -> str:
        """The newest partition that the alias ever named."""
        return self.newest_ds or self.ds

    @property
    def moves(self) -> list[Move]:
        """What the alias named, newest first, from now on backwards."""
        return [Move(**{name: getattr(self, name) for name in Move.model_fields}), *self.history]

    def withdrawn(self, version: str) -> Move | None:
        """The rollback that took this version back, if that was the last thing that happened to it."""
        moves = self.moves
        for newer, older in itertools.pairwise(moves):
            if newer.version == version:
                return None
            if older.version == version:
                return newer if newer.action == "rolled back" else None
        return None

    def followed_by(self, move: Move) -> "Pointer":
        """The pointer after `move`."""
        return Pointer(
            **dict(move),
            previous=self.version if move.version != self.version else self.previous,
            newest_ds=max(self.front, move.ds),
            history=self.moves[:HISTORY],
        )

    def to_bytes(self) -> bytes:
        """UTF-8 JSON."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def read_pointer(store: ObjectStore, model: str, alias: str) -> tuple[Pointer, str] | None:
    """The alias and its etag, None if there is none yet. Raises Corrupt naming the key."""
    key = alias_key(model, alias)
    try:
        stored = store.get(key)
    except NotFound:
        return None
    try:
        return Pointer.model_validate_json(stored.data), stored.etag
    except ValidationError as error:
        raise Corrupt(
            f"alias {store.uri(key)}: {error.errors()[0]['msg']}",
            "restore the object; `persia models list` shows the versions that exist",
        ) from error


def swap_pointer(store: ObjectStore, model: str, alias: str, pointer: Pointer, etag: str | None) -> str:
    """Move the alias if it still has `etag` (None: if there is none yet); PreconditionFailed otherwise.

    Returns the new etag.
    """
    if etag is None:
        return store.put_if_absent(alias_key(model, alias), pointer.to_bytes())
    return store.put_if_match(alias_key(model, alias), pointer.to_bytes(), etag)
