"""A version is exported once, however often it is published."""

import shutil
from pathlib import Path
from typing import Any

from persia_core.handoff.export import export_version
from persia_core.handoff.manifest import Manifest


class ExportedOnce:
    """Exports a run, and copies that for every later attempt: what differs between them is the store."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._manifests: dict[str, Manifest] = {}

    def __call__(self, *args: Any, **keywords: Any) -> Manifest:
        run_dir, out = args[1], args[3]
        if run_dir.name not in self._manifests:
            self._manifests[run_dir.name] = export_version(*args, **keywords)
            shutil.copytree(out, self._kept / run_dir.name)
        shutil.copytree(self._kept / run_dir.name, out, dirs_exist_ok=True)
        return self._manifests[run_dir.name]
