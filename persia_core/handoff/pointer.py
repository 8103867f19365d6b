"""Aliases: small objects that name a model version and move by compare-and-swap."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from persia_core.errors import Corrupt
from persia_core.handoff.layout import alias_key, check_name, version_ds
from persia_core.handoff.object_store import NotFound, ObjectStore

CANDIDATE = "candidate"
CHAMPION = "champion"


class Pointer(BaseModel):
    """The content of an alias. `manifest_sha256` (hex) is of the bytes of the version's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    ds: str
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    previous: str | None = None
    reason: str
    promoted_by: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Pointer":
        if version_ds(check_name("version", self.version)) != self.ds:
            raise ValueError(f"version {self.version} is not of partition {self.ds}")
        if self.previous is not None:
            version_ds(check_name("version", self.previous))
        return self

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


def swap_pointer(store: ObjectStore, model: str, alias: str, pointer: Pointer, etag: str | None) -> None:
    """Move the alias if it still has `etag` (None: if there is none yet); PreconditionFailed otherwise."""
    if etag is None:
        store.put_if_absent(alias_key(model, alias), pointer.to_bytes())
    else:
        store.put_if_match(alias_key(model, alias), pointer.to_bytes(), etag)
