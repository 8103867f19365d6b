"""What the Airflow UI says about the DAGs around the daily retrain."""

VERSION_PATTERN = r"\d{4}-\d{2}-\d{2}-[0-9a-f]{12}"
DAY = "YYYY-MM-DD."

ROLLBACK = """
### Roll a model back

Makes an **earlier version** the champion again. Serving picks it up as it picks up any champion. The next
daily retrain goes on from the newest checkpoint as before, and may promote a later day: if the data is to
blame, pause `daily_retrain_<model>` first.

Give the model, the version and a **reason** of ten characters or more. Reason and name stay with the pointer.
"""

HOUSEKEEPING = """
### Housekeeping

Every day: versions and checkpoints that the retention policy no longer keeps (`retire`), uploads that were
begun and never finished (`sweep`), and what killed jobs left on this host, with logs and curves of published
runs whose time is over (`clean`). All of it may run at any time, also beside a training run.
"""

BOOTSTRAP = """
### First training of a model

Starts a run of `daily_retrain_<model>` for each day of a range that has landed, **in order**, each after the
one before has ended. The first day is a **cold start**. A day that fails ends it: the days after it wait for
their turn there, so mend the day and clear its task here.
"""

CONSUMER = """
### Example: what follows a new champion

Runs whenever a version of `{model}` becomes champion: it is scheduled on the asset `champion.{model}`, and
its partition key is the day of the version. The name of the version is in the event. An event may come twice
for one version, so what is done here must bear being done again.
"""
