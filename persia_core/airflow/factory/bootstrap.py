"""The runs of the daily retrain that a first training is made of."""

from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from persia_core.airflow.operators import PersiaOperator


class DayRuns(PersiaOperator):
    """Runs `persia data days`, and returns what to trigger for each day: the first one is a cold start."""

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """[{trigger_run_id, conf}], in order of day. Fails when no day has landed."""
        days = super().execute(context)
        if not days:
            raise AirflowFailException(
                "no raw partition of that range has landed; land it first, or give another range"
            )
        return [
            {
                "trigger_run_id": f"bootstrap__{context['run_id']}__{ds}",
                "conf": {"ds": ds, "cold_start": number == 0},
            }
            for number, ds in enumerate(days)
        ]
