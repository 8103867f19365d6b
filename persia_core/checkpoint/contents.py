"""What the manifest of a checkpoint has to list, whatever wrote it."""

from persia_core.checkpoint.layout import DENSE, OPTIMIZER, STATE, embedding_part
from persia_core.errors import Corrupt
from persia_core.handoff.manifest import Manifest


def check_contents(manifest: Manifest, where: str) -> None:
    """Raise Corrupt naming the first part that a checkpoint cannot be without and `manifest` does not list.

    `where` is the manifest's file or key. That the listed parts are there, and whole, is checked elsewhere.
    """
    servers = manifest.details.get("servers")
    listed = {part.path for part in manifest.parts}
    if not isinstance(servers, int) or servers < 1:
        raise _unfit(where, "does not say of how many embedding servers it is")
    for name in (DENSE, OPTIMIZER, STATE, *map(embedding_part, range(servers))):
        if name not in listed:
            raise _unfit(where, f"does not list {name}")


def _unfit(where: str, what: str) -> Corrupt:
    return Corrupt(
        f"manifest {where} {what}",
        "it was damaged or written by something else; restore it, or train the partition again",
    )
