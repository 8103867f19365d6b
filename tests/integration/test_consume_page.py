"""The code of docs/consume.md, as it stands there, against an S3 endpoint and an oracle."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from persia_core.config import ModelConfig
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer, swap_pointer
from persia_core.handoff.publish import PublishResult, publish
from persia_core.handoff.s3_store import S3Store
from persia_core.models.dnn import DNN
from tests.support.runs import DIM, Day, FakeModel, make_day, make_run, oracle_predict, small_config

PAGE = Path(__file__).parents[2] / "docs" / "consume.md"

MAIN = """
import os
import sys
import boto3

assert len(sys.argv) == 5
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])
bucket, prefix = sys.argv[1].removeprefix("s3://").split("/", 1)
version = fetch_champion(s3, bucket, prefix + "/", "small", Path(sys.argv[2]), deltas=bool(sys.argv[3]))
if sys.argv[3]:
    for table in ("user", "item", "tag", "hour"):
        apply_delta(Path(sys.argv[3]), version, table)
np.save(sys.argv[4], predict(version, pq.read_table(Path(sys.argv[2], "rows.parquet"))))
print(version.name, check_parity(version))
assert not {"torch", "persia_core"} & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    path = tmp_path / "consume.py"
    path.write_text("\n\n".join(blocks) + MAIN)
    return path


def publish_champion(
    config: ModelConfig, store: S3Store, day: Day, run: Path, parent: PublishResult | None
) -> tuple[PublishResult, FakeModel]:
    torch.manual_seed(len(day.ds) + int(day.ds[-1]))
    dims = {feature.name: DIM for feature in config.id_features}
    network = DNN(len(config.dense_features), dims, hidden=(8, 4)).eval()
    model = FakeModel(day.model.weights, network)
    directory = make_run(config, day, run, model=model, parent=parent.checkpoint if parent else None)
    result = publish(config, store, day.ds, directory)
    found = read_pointer(store, "small", CHAMPION)
    pointer = Pointer(
        version=result.version, ds=day.ds, manifest_sha256=result.manifest_sha256, reason="test"
    )
    swap_pointer(store, "small", CHAMPION, pointer, found[1] if found else None)
    return result, model


def run(
    program: Path, s3_url: str, endpoint: str, out: Path, parent: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ENDPOINT": endpoint}
    return subprocess.run(
        [sys.executable, str(program), s3_url, str(out), parent, str(out / "predicted.npy")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=program.parent,
        check=False,
    )


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_the_page_picks_up_what_was_promoted_and_predicts_as_the_trainer_did(
    program: Path, s3_store: S3Store, s3_url: str, s3_endpoint: str, tmp_path: Path, kind: str
) -> None:
    config = small_config(
        training={"model": "persia_core.models.dnn:DNN", "model_args": {"hidden": [8, 4]}},
        export={"embeddings": kind, "delta": True},
        gates={"min_rows": 50, "max_prediction_difference": 1e-5 if kind == "float32" else 0.02},
    )
    limit = config.gates.max_prediction_difference
    first: PublishResult | None = None
    for number in (1, 2):
        day = make_day(config, s3_store, f"2026-11-0{number}", rows=60, seed=number)
        result, model = publish_champion(config, s3_store, day, tmp_path / f"run-{number}", first)
        out = tmp_path / "models"
        out.mkdir(exist_ok=True)
        pq.write_table(day.table, out / "rows.parquet")
        done = run(program, s3_url, s3_endpoint, out, str(out / first.version) if first else "")
        assert done.returncode == 0, done.stderr
        version, parity = done.stdout.split()
        assert version == result.version
        assert float(parity) <= limit
        predicted = np.load(out / "predicted.npy")
        np.testing.assert_allclose(predicted, oracle_predict(config, model, day.table), atol=limit)
        first = result
    part = version_prefix("small", result.version) + "embeddings/user.parquet"
    whole = s3_store.get(part).data
    here = tmp_path / "models" / result.version / "embeddings" / "user.parquet"
    here.write_bytes(whole[: len(whole) // 2])  # cut off: the rest is put behind it
    kept = here.stat().st_ino
    assert run(program, s3_url, s3_endpoint, tmp_path / "models", "").returncode == 0
    assert (here.read_bytes(), here.stat().st_ino) == (whole, kept)
    s3_store.put(part, whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    done = run(program, s3_url, s3_endpoint, tmp_path / "models" / "elsewhere", "")
    assert "embeddings/user.parquet is damaged" in done.stderr
