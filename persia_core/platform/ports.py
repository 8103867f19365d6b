"""Choosing a loopback port."""

import socket


def free_port(preferred: int) -> int:
    """`preferred` if nothing listens there on 127.0.0.1, else a free port that the kernel picks."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("binding to port 0 cannot be refused")
