"""Who may see and do what: the answers of Airflow's own auth manager."""

from typing import Any

from persia_core.airflow import names


def may_read(user: Any, model: str) -> bool:
    """Whoever may read the DAG that retrains a model may read about its versions."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    details = DagDetails(id=names.daily_retrain(model))
    return bool(get_auth_manager().is_authorized_dag(method="GET", details=details, user=user))


def may_roll_back(user: Any) -> bool:
    """Whether the user may trigger the DAG that rolls back. Airflow checks it again at the trigger."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

    details = DagDetails(id=names.ROLLBACK_DAG)
    return bool(
        get_auth_manager().is_authorized_dag(
            method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
        )
    )


def may_read_logs(user: Any, model: str) -> bool:
    """Whether the user may read the logs of the tasks that retrain a model."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

    details = DagDetails(id=names.daily_retrain(model))
    return bool(
        get_auth_manager().is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.TASK_LOGS, details=details, user=user
        )
    )
