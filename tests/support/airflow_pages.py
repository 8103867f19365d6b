"""Airflow's application with its auth manager and the plugins that its manager finds; nothing else of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from persia_core.config import ModelConfig


def write_project(root: Path, config: ModelConfig) -> None:
    """A project directory with one configuration."""
    (root / "configs").mkdir(exist_ok=True)
    document = config.model_dump(mode="json", exclude_unset=True)
    (root / "configs" / f"{config.name}.yaml").write_text(yaml.safe_dump(document))


@contextmanager
def pages() -> Iterator[TestClient]:
    """Serve what our plugin registers, in this process, over the project of PERSIA_PROJECT."""
    from airflow import settings
    from airflow.api_fastapi.app import init_auth_manager, init_plugins
    from airflow.models.revoked_token import RevokedToken
    from sqlalchemy import inspect

    # Airflow looks there for tokens that were revoked. A later migration must not find the table.
    missing = not inspect(settings.engine).has_table(RevokedToken.__tablename__)
    if missing:
        RevokedToken.__table__.create(settings.engine)
    root = FastAPI()
    init_auth_manager(root)
    init_plugins(root)
    with TestClient(root) as client:
        yield client
    if missing:
        RevokedToken.__table__.drop(settings.engine)


def login(role: str) -> dict[str, str]:
    """Headers of a user with that role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="someone", role=role))
    return {"Authorization": f"Bearer {token}"}
