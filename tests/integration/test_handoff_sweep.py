"""Sweeping at a real endpoint and in a local directory: what is abandoned goes, what is under way stays."""

from pathlib import Path
from typing import Any

import boto3
import pytest

from persia_core.config import ModelConfig
from persia_core.handoff.layout import (
    checkpoint_prefix,
    cut_prefix,
    hashed_prefix,
    rejected_prefix,
    version_prefix,
)
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.sweep import sweep
from tests.support.runs import small_config
from tests.support.versions import MODEL, everything, fill, store_prefix

DAYS = [f"2026-11-{day:02d}" for day in range(1, 9)]
DAY_S = 86_400.0


@pytest.fixture
def config() -> ModelConfig:
    return small_config()


@pytest.fixture(params=["s3", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        return request.getfixturevalue("s3_store")  # type: ignore[no-any-return]
    return LocalStore(tmp_path / "store")


def test_parts_without_a_manifest_are_swept_when_they_are_old(
    config: ModelConfig, store: ObjectStore
) -> None:
    fill(store, DAYS[:2])
    store_prefix(store, cut_prefix(MODEL, DAYS[2], "run", 100), "checkpoint", DAYS[2])
    whole = everything(store)
    abandoned = [
        *(version_prefix(MODEL, f"{DAYS[2]}-aaaaaaaaaaaa"), checkpoint_prefix(MODEL, DAYS[2], "run")),
        *(checkpoint_prefix(MODEL, DAYS[0], "other"), hashed_prefix("clicks", DAYS[2])),
        *(rejected_prefix("clicks", DAYS[2]), cut_prefix(MODEL, DAYS[2], "run", 200)),
    ]
    for prefix in abandoned:
        store_prefix(store, prefix, "checkpoint", DAYS[2], complete=False)
    others = {
        "raw/clicks/ds=2026-11-01/clicks.csv": b"1",
        "hashed/other/ds=2026-11-01/part-0.parquet": b"2",
        "checkpoints/another/ds=2026-11-01/run/dense.safetensors": b"3",
        f"checkpoints/{MODEL}/notes.txt": b"4",
    }
    for key, data in others.items():
        store.put(key, data)
    full = everything(store)
    newest = max(info.modified for info in store.list(""))
    assert newest > 1_600_000_000
    assert sweep(config, store, older_than_s=DAY_S, now=newest + DAY_S - 60, apply=True).leftovers == []
    shown = sweep(config, store, older_than_s=DAY_S, now=newest + DAY_S + 60)
    assert everything(store) == full
    assert sorted(each.key for each in shown.leftovers) == sorted(abandoned)
    assert {(each.objects, each.bytes) for each in shown.leftovers} == {(2, 30)}
    done = sweep(config, store, older_than_s=DAY_S, now=newest + DAY_S + 60, apply=True)
    assert done.leftovers == shown.leftovers
    assert everything(store) == whole | others
    with pytest.raises(ValueError, match="an hour"):
        sweep(config, store, older_than_s=3599, now=newest)


def test_an_attempt_that_goes_on_meanwhile_is_not_swept(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    prefix = checkpoint_prefix(MODEL, DAYS[0], "run")
    store_prefix(s3_store, prefix, "checkpoint", DAYS[0], complete=False)
    newest = max(info.modified for info in s3_store.list(""))

    class GoesOn(S3Store):
        """The attempt ends with its manifest after the first listing."""

        def list(self, prefix_: str) -> Any:
            found = list(super().list(prefix_))
            if prefix_.startswith("checkpoints/"):
                store_prefix(s3_store, prefix, "checkpoint", DAYS[0])
            return iter(found)

    going = GoesOn(s3_store.url, s3_endpoint)
    assert sweep(config, going, older_than_s=DAY_S, now=newest + 2 * DAY_S, apply=True).leftovers == []
    assert len(everything(s3_store)) == 3


def test_abandoned_multipart_uploads_are_aborted_and_others_are_not(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    bucket, _, prefix = s3_store.url.removeprefix("s3://").partition("/")
    keys = [
        f"{prefix}/models/{MODEL}/versions/v/embeddings/user.parquet",
        f"{prefix}/raw/clicks/big.csv",
        "other",
    ]
    ids = {}
    for key in keys:
        ids[key] = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=ids[key], PartNumber=1, Body=b"x" * 1000)
    (upload,) = [each for each in s3_store.uploads() if not each.key.startswith("raw/")]
    assert (upload.key, upload.size) == (f"models/{MODEL}/versions/v/embeddings/user.parquet", 1000)

    def open_uploads() -> set[str]:
        return {item["Key"] for item in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())}

    young = sweep(config, s3_store, older_than_s=DAY_S, now=upload.modified + DAY_S - 60, apply=True)
    assert young.leftovers == []
    shown = sweep(config, s3_store, older_than_s=DAY_S, now=upload.modified + DAY_S + 60)
    assert [(each.kind, each.key, each.bytes) for each in shown.leftovers] == [("upload", upload.key, 1000)]
    assert open_uploads() == set(keys)
    sweep(config, s3_store, older_than_s=DAY_S, now=upload.modified + DAY_S + 60, apply=True)
    assert open_uploads() == set(keys[1:])
    s3_store.abort_upload(upload)  # gone already: no error


def test_temporary_files_of_writers_that_died_are_swept_from_a_local_store(
    config: ModelConfig, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("raw/clicks/ds=2026-11-01/a.csv", b"1")
    left = tmp_path / "store" / ".store" / "tmp" / "0123"
    left.write_bytes(b"half")
    now = left.stat().st_mtime
    assert sweep(config, store, older_than_s=DAY_S, now=now + DAY_S - 1, apply=True).leftovers == []
    (found,) = sweep(config, store, older_than_s=DAY_S, now=now + DAY_S + 1, apply=True).leftovers
    assert (found.kind, found.bytes) == ("upload", 4)
    assert not left.exists()
