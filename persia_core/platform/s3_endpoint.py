"""The embedded S3 endpoint: moto's server, with conditional writes that are one step each.

moto compares the ETag and then writes, in threads that may interleave: of two writers with
`If-None-Match: *` both can be told that they created the object. S3 lets one of them win, and
manifests and pointers stand on that. So the writes of one key take turns here.
"""

import argparse
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class OneWriterPerKey:
    """A WSGI application in which writes of one key do not overlap; all else runs as it comes."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._locks: dict[str, threading.Lock] = {}
        self._making = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass the request on, once no other write of its key is under way."""
        if not _writes_an_object(environ):
            return self._application(environ, start_response)
        with self._making:
            lock = self._locks.setdefault(environ["PATH_INFO"], threading.Lock())
        with lock:
            return self._application(environ, start_response)


def _writes_an_object(environ: dict[str, Any]) -> bool:
    """True if the request can change what a key holds. A part of a multipart upload changes nothing yet."""
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    return environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE") and "partNumber" not in query


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(
        description="An S3 endpoint for one machine; its content lives in memory."
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the port; 0, the default, takes a free one")
    arguments = parser.parse_args()

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import run_simple

    application = OneWriterPerKey(DomainDispatcherApplication(create_backend_app))
    run_simple(arguments.host, arguments.port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
