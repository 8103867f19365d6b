"""The local platform: Airflow and an S3 endpoint on this machine, to try things and to look at them."""

from persia_core.platform.commands import Platform, down, status, up

__all__ = ["Platform", "down", "status", "up"]
