"""An HTTP proxy before an S3 endpoint that misbehaves as it is told: real requests, real faults."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>as told</Message></Error>'


@dataclass(frozen=True)
class Fault:
    """`lose reply`: the request takes effect, its answer does not arrive. `cut body`: half of it does.

    Of the others the request does not reach the service. `answer`: `status` and `code` are answered instead.
    `reset`: the connection is reset. `stall`: nothing happens until the client gives up.
    """

    kind: Literal["lose reply", "cut body", "answer", "reset", "stall"]
    status: int = 0
    code: str = ""


@dataclass
class Request:
    """What the client sent; the rule may change `headers` before they are passed on."""

    method: str
    path: str
    headers: dict[str, str]


Rule = Callable[[Request], Fault | None]


@dataclass
class FaultyProxy:
    """`url` to give to the client; `rule` decides about every request; `seen` are all of them."""

    url: str
    rule: Rule
    seen: list[Request] = field(default_factory=list)


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy on a free loopback port, without faults until its rule is set."""
    target = urlsplit(upstream).netloc
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers.items()))
            with lock:
                proxy.seen.append(request)
                fault = proxy.rule(request)
            if fault is not None and fault.kind == "answer":
                self._answer(fault.status, [], _ERROR.format(code=fault.code).encode())
                return
            if fault is not None and fault.kind in ("reset", "stall"):
                if fault.kind == "stall":
                    self.connection.recv(1)  # nothing comes but the end
                no_wait = struct.pack("ii", 1, 0)  # close sends RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_wait)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RD)
                return
            headers = {k: v for k, v in request.headers.items() if k.lower() not in ("expect", "connection")}
            connection = http.client.HTTPConnection(target)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault is not None and fault.kind == "lose reply":
                self.close_connection = True
                return
            self._answer(
                answer.status,
                answer.getheaders(),
                content,
                cut=fault is not None and fault.kind == "cut body",
            )

        def _answer(
            self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False
        ) -> None:
            self.send_response_only(status)
            length = next((v for k, v in headers if k.lower() == "content-length"), str(len(body)))
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = FaultyProxy(f"http://127.0.0.1:{server.server_address[1]}", lambda _: None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def first(count: int, fault: Fault, method: str, key: str) -> Rule:
    """`fault` for the first `count` requests of `method` on a path that ends with `key`."""
    left = [count]

    def rule(request: Request) -> Fault | None:
        if request.method != method or not request.path.split("?")[0].endswith(key) or left[0] == 0:
            return None
        left[0] -= 1
        return fault

    return rule
