"""Picks models up in a process whose memory is measured: python -m tests.attacks.measured ROOT...

Prints for each root, a directory as `Victim` has it, one line of JSON: the exit code of the refusal (0 if the
model was loaded), its message, and by how many MiB memory grew at its highest.
"""

import json
import resource
import sys
from pathlib import Path

from persia_core.errors import PersiaError
from persia_core.handoff.consume import pick_up
from persia_core.handoff.serving_model import load_model
from tests.attacks.victim import Victim
from tests.support.versions import MODEL


def main(roots: list[str]) -> None:
    for root in roots:
        victim = Victim(Path(root))
        before = peak_mib()
        code, message = 0, ""
        try:
            if (Path(root) / "fetched").exists():  # too large to be copied about in a test
                model = load_model(victim.directory)
            else:
                model = pick_up(victim.store, MODEL, victim.cache).model
            if (rows := Path(root) / "rows.parquet").exists():
                import pyarrow.parquet as pq

                model.predict(pq.read_table(rows))
                _ = model.network
        except PersiaError as error:
            code, message = int(error.exit_code), error.what
        print(json.dumps({"code": code, "what": message, "grown_mib": peak_mib() - before}), flush=True)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
