"""The demo from end to end: data, platform, one Airflow run per partition, the table, where to look."""

import contextlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from persia_core.airflow import names
from persia_core.config import ModelConfig, load_config
from persia_core.config.home import persia_home
from persia_core.data.raw import land_partition
from persia_core.demo.airflow_client import AirflowClient
from persia_core.demo.baseline import Click, item_rate_auc
from persia_core.demo.data import DemoData, clicks, prepare
from persia_core.demo.table import Day, render, shortcomings
from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode
from persia_core.handoff import layout
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import NotFound, ObjectStore, open_store
from persia_core.platform import Platform, down, up

RUN_TIMEOUT_S = 1800.0
MODELS_PAGE = "/plugin/models"  # in Airflow's frame


def run_demo(days: int = 3, keep: bool = False) -> None:
    """Train on a bootstrap partition and then on `days` later ones, through the local Airflow.

    Starts the platform if it is not up, and stops it again at the end unless `keep`. Raises PersiaError when
    a run fails, or when the model does not beat the baseline or is worse than one that stopped learning.
    """
    begun = time.monotonic()
    _say(f"[1/4] Data (kept in {persia_home() / 'demo'})")
    data = prepare(persia_home() / "demo", days, _say)
    _say(f"  {data.title}")
    with _sigterm_unwinds():
        _say("[2/4] Platform")
        platform = up(_say)
        try:
            with _environment(platform):
                table = _train_all(data, platform, begun)
        finally:
            if platform.fresh and not keep:
                down(_say)
    _say(f"\nThe whole demo took {time.monotonic() - begun:.0f} s.")
    if platform.fresh and not keep:
        _say("The platform was stopped again. To look around in it: `persia demo --keep`, later `make down`.")
        _say("`make up` shows the runs of this demo again; what the S3 endpoint held is gone.")
    else:
        _say(f"The platform stays up: {platform.airflow_url}. `make down` stops it; its S3 forgets all.")
    if problems := shortcomings(table):
        raise PersiaError(
            "the demo ran, but its result is not good enough: " + "; ".join(problems),
            "look at the learning curves in the report and at the training settings in the configuration",
        )


def _train_all(data: DemoData, platform: Platform, begun: float) -> list[Day]:
    config = load_config(Path(os.environ.get("PERSIA_PROJECT") or Path.cwd()) / data.config)
    store = open_store(config.storage)
    _forget_earlier_demo(config, store)
    for ds, path in data.days.items():
        land_partition(store, config.dataset.name, ds, [path])

    dag_id = names.daily_retrain(config.name)
    _say(f"[3/4] One run of the DAG {dag_id} per partition")
    airflow = AirflowClient(platform.airflow_url, platform.home, dag_id)
    airflow.wait_for_dag()
    stamp = uuid.uuid4().hex[:6]
    lines: list[Day] = []
    seen: list[Click] = []
    for number, (ds, path) in enumerate(data.days.items()):
        run_id = f"demo_{stamp}__{ds}"
        kind = "bootstrap, cold start" if number == 0 else f"day {number} of {len(data.days) - 1}"
        _say(f"\n{ds} ({kind}): {platform.airflow_url}/dags/{dag_id}/runs/{run_id}")
        airflow.trigger(run_id, ds, {"cold_start": number == 0})
        airflow.wait(run_id, RUN_TIMEOUT_S, _say)
        version = str(airflow.result(run_id, names.PUBLISH)["version"])
        today = clicks(path, data.item_column)
        baseline = item_rate_auc(seen, today) if seen else None
        seen += today
        lines.append(_line(config, store, ds, version, baseline))
    _say(f"\n[4/4] Evaluating the model that stopped at {lines[0].ds} on the later partitions")
    lines[1:] = [_with_stopped(config, store, lines[0].version, line) for line in lines[1:]]
    _say(f"\n{data.title}\n\n{render(lines)}\n")
    _say_where(config, store, platform, lines[-1])
    return lines[1:]


def _line(config: ModelConfig, store: ObjectStore, ds: str, version: str, baseline: float | None) -> Day:
    """A line of the table, from what is stored: two manifests and the champion pointer."""
    from persia_core.handoff.pointer import CHAMPION, read_pointer

    hashed = _manifest(store, layout.hashed_prefix(config.dataset.name, ds)).details
    metrics = _manifest(store, layout.version_prefix(config.name, version)).metrics
    before = metrics.get("before") or {}
    pointer = read_pointer(store, config.name, CHAMPION)
    return Day(
        ds=ds,
        rows_in=hashed["rows_in"],
        rows_rejected=sum(hashed["rejected"].values()),
        rows_trained=metrics["rows_trained"],
        rows_skipped=sum(metrics["rows_skipped"].values()),
        auc=before.get("auc"),
        log_loss=before.get("log_loss"),
        item_rate_auc=baseline,
        stopped_auc=None,
        staleness_max=(metrics.get("staleness") or {}).get("max"),
        table_rows=sum(metrics["table_rows"].values()),
        version=version,
        champion=pointer[0].version if pointer else None,
    )


def _manifest(store: ObjectStore, prefix: str) -> Manifest:
    key = prefix + layout.MANIFEST
    return Manifest.from_bytes(store.get(key).data, store.uri(key))


def _with_stopped(config: ModelConfig, store: ObjectStore, bootstrap: str, line: Day) -> Day:
    from persia_core.handoff.evaluate import evaluate_version

    return replace(line, stopped_auc=evaluate_version(config, store, bootstrap, line.ds)["auc"])


def _say_where(config: ModelConfig, store: ObjectStore, platform: Platform, last: Day) -> None:
    """Say where to look. Data Docs and report are copied to local disk: the endpoint forgets them."""
    here = persia_home() / "demo" / "out"
    shutil.rmtree(here, ignore_errors=True)
    docs = layout.data_docs_prefix(config.dataset.name, last.ds)
    version = layout.version_prefix(config.name, last.version)
    keys = [item.key for item in store.list(docs)] + [version + "report.html", version + "MODEL_CARD.md"]
    for key in keys:
        with contextlib.suppress(NotFound):
            store.download(key, here / key)
    index = min((k for k in keys if k.endswith("index.html")), key=len, default=docs)
    _say("To look at it:")
    dag = f"{platform.airflow_url}/dags/{names.daily_retrain(config.name)}"
    _say(f"  Airflow    {dag}   (while the platform is up)")
    _say(f"  Models     {platform.airflow_url}{MODELS_PAGE}   (champion, AUC over days, roll back; likewise)")
    _say(f"  Data Docs  {(here / index).as_uri()}")
    _say(f"  report     {(here / version / 'report.html').as_uri()}")
    _say(f"  champion   {store.uri(version)}")


def _forget_earlier_demo(config: ModelConfig, store: ObjectStore) -> None:
    """Start from nothing on a platform that saw a demo already.

    Its champion is ahead of the bootstrap, and the configuration may have changed since it hashed the days.
    """
    prefixes = (
        f"models/{config.name}/",
        layout.checkpoints_root(config.name),
        layout.hashed_root(config.dataset.name),
    )
    keys = [item.key for prefix in prefixes for item in store.list(prefix)]
    if keys:
        _say(f"  removing what an earlier demo left in the local endpoint: {len(keys)} objects")
        for key in sorted(keys, key=lambda key: not key.endswith(layout.MANIFEST)):  # never half a prefix
            store.delete(key)


@contextlib.contextmanager
def _environment(platform: Platform) -> Iterator[None]:
    """The platform's endpoint and credentials for the calls made in this process, and nothing else's."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AWS_") or n == "PERSIA_STORAGE_URL"]:
        del os.environ[name]
    os.environ.update(platform.env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Being told to end must still stop what was started."""

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(ExitCode.TERMINATED)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    print(line, flush=True)
