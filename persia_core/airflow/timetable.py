"""A schedule that is known and never due: for an Airflow where nobody delivers partitions."""

from typing import Any

from airflow.timetables.trigger import CronPartitionTimetable


class BackfillOnlyTimetable(CronPartitionTimetable):
    """The partitions of a cron expression, for backfills and runs by hand; nothing starts by the clock."""

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule."""
        return f"{self._expression} (clock off)"

    def next_dagrun_info_v2(self, *, last_dagrun_info: Any, restriction: Any) -> None:
        """No run is ever next."""
