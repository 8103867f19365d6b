"""`persia serve`: the application under uvicorn, until it is told to stop."""

import logging
import socket
from pathlib import Path

import uvicorn

from persia_core.config import ModelConfig
from persia_core.errors import EnvironmentProblem
from persia_core.handoff.object_store import ObjectStore
from persia_core.serve.app import create_app
from persia_core.serve.follow import Follower
from persia_core.serve.metrics import ServeMetrics

log = logging.getLogger(__name__)

GRACE_S = 30  # for requests under way when the server is told to stop


def serve(
    config: ModelConfig, store: ObjectStore, directory: Path, host: str, port: int, every_s: float
) -> None:
    """Serve the champion of `config` until SIGTERM or SIGINT; requests under way are finished.

    `directory` keeps downloaded versions. Raises what keeps the first champion from being loaded.
    """
    listening = _listen(host, port)
    metrics = ServeMetrics()
    follower = Follower(config, store, directory, every_s, metrics)
    follower.start()
    app = create_app(config, follower, metrics)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S)
    )
    log.info("serving %s at http://%s:%d", config.name, host, listening.getsockname()[1])
    server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            "give another --port (0: any that is free) or --host",
        ) from error
