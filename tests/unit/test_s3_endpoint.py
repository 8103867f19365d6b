"""The embedded S3 endpoint lets the writes of one key take turns, and nothing else wait."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from persia_core.platform.s3_endpoint import OneWriterPerKey

PATIENCE_S = 20.0


def start_response(*_: Any) -> None: ...


def request(method: str, path: str, query: str = "") -> dict[str, Any]:
    return {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_writes_of_one_key_take_turns(method: str) -> None:
    under_way, most, turns = 0, 0, 0
    leave = threading.Event()

    def application(environ: dict[str, Any], _: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal under_way, most, turns
        under_way += 1
        most = max(most, under_way)
        leave.wait(0.05)  # long enough for a second writer to come in, if nothing keeps it out
        under_way -= 1
        turns += 1
        return [environ["PATH_INFO"].encode()]

    endpoint = OneWriterPerKey(application)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: endpoint(request(method, "/bucket/key"), start_response), range(4)))
    assert (most, turns, answers) == (1, 4, [[b"/bucket/key"]] * 4)


@pytest.mark.parametrize(
    "others",
    [
        [request("PUT", "/bucket/other")],
        [request("GET", "/bucket/key"), request("HEAD", "/bucket/key")],
        [request("PUT", "/bucket/key", f"partNumber={part}&uploadId=u") for part in (1, 2)],
    ],
    ids=["another key", "reads", "parts of an upload"],
)
def test_all_other_requests_run_beside_a_write(others: list[dict[str, Any]]) -> None:
    together = threading.Barrier(1 + len(others))

    def application(_environ: dict[str, Any], _: Callable[..., Any]) -> Iterable[bytes]:
        together.wait(PATIENCE_S)
        return [b""]

    endpoint = OneWriterPerKey(application)
    with ThreadPoolExecutor(1 + len(others)) as pool:
        requests = [request("PUT", "/bucket/key"), *others]
        assert len(list(pool.map(lambda each: endpoint(each, start_response), requests))) == len(requests)


def test_a_request_that_fails_lets_the_next_one_in() -> None:
    def application(environ: dict[str, Any], _: Callable[..., Any]) -> Iterable[bytes]:
        if environ["QUERY_STRING"] == "fail":
            raise ValueError("broken")
        return [b"done"]

    endpoint = OneWriterPerKey(application)
    with pytest.raises(ValueError, match="broken"):
        endpoint(request("PUT", "/bucket/key", "fail"), start_response)
    assert endpoint(request("PUT", "/bucket/key"), start_response) == [b"done"]
