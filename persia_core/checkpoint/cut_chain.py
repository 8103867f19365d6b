"""The cuts that a cut follows: the rows of a delta are those of a base, and of what was changed since.

The manifest of a delta names all cuts beneath it by step and digest, the base first; they lie beside it. So
what belongs together is known from one manifest, and a base of another attempt is found before anything is
loaded.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from persia_core.checkpoint.layout import is_embedding_part
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Manifest

FOLLOWS = "follows"  # of the details of a manifest

_REMEDY = "leave it to the next attempt of the run, which goes on from the newest cut that is whole"


class Link(BaseModel):
    """A cut that others follow: the steps of the run that are in it, and the digest of its manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: Annotated[int, Field(strict=True, ge=1, lt=2**63)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


_LINKS = TypeAdapter(list[Link])


def links_of(manifest: Manifest, step: int, where: str) -> list[Link]:
    """The cuts whose rows are needed beside those of the cut at `step`, the base first; none if it is whole.

    Raises Corrupt naming `where`, the manifest's file or key.
    """
    try:
        links = _LINKS.validate_python(manifest.details.get(FOLLOWS, []))
    except ValidationError as error:
        raise Corrupt(f"manifest {where}: {FOLLOWS}: {error.errors()[0]['msg']}", _REMEDY) from error
    steps = [*(link.step for link in links), step]
    if any(earlier >= later for earlier, later in pairwise(steps)):
        raise Corrupt(f"manifest {where}: {FOLLOWS}: the steps {steps} do not ascend", _REMEDY)
    return links


def check_link(found: Manifest, link: Link, where: str, follower: str) -> None:
    """Raise Corrupt unless `found`, the manifest at `where`, is of the cut that `follower` follows."""
    if found.kind != "cut" or found.digest != link.digest:
        raise Corrupt(
            f"manifest {where} is of another cut ({found.kind} {found.digest[:12]}) than the one that "
            f"{follower} follows ({link.digest[:12]})",
            _REMEDY,
        )


def manifest_in(directory: Path) -> Manifest:
    """Raises Corrupt naming the file if it is missing or damaged."""
    path = directory / MANIFEST
    try:
        return Manifest.from_bytes(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise Corrupt(f"{path} is missing", _REMEDY) from None


def chain_directories(directory: Path) -> list[Path]:
    """Where the cut in `directory` and all that it follows lie, the base first.

    Raises Corrupt naming a manifest that is not what it should be.
    """
    links = links_of(manifest_in(directory), int(directory.name), str(directory / MANIFEST))
    found = []
    for link in links:
        beneath = directory.parent / str(link.step)
        check_link(manifest_in(beneath), link, str(beneath / MANIFEST), str(directory))
        found.append(beneath)
    return [*found, directory]


def embedding_paths(directory: Path) -> list[Path]:
    """The parts that together hold the rows of the checkpoint or cut in `directory`.

    Raises Corrupt naming a manifest that is not what it should be.
    """
    whole = manifest_in(directory).kind == "checkpoint"
    return [
        each / part.path
        for each in ([directory] if whole else chain_directories(directory))
        for part in manifest_in(each).parts
        if is_embedding_part(part.path)
    ]
