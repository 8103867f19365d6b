"""The operator of the training job: submit it by name, follow it, and find it again after any restart."""

import threading
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout

from persia_core.airflow import links as buttons
from persia_core.airflow.failure import failure_of
from persia_core.airflow.following import Follower
from persia_core.airflow.operators import TAIL_LINES, PersiaOperator
from persia_core.airflow.triggers import JobTrigger
from persia_core.config.home import project_dir, work_dir
from persia_core.exit_codes import ExitCode
from persia_core.launch.backends.interface import Phase
from persia_core.launch.job_directory import JobSpec

LOOK_EVERY_S = 0.5
SHOWN_AGAIN = 20  # lines of a job's output when a task finds it running


class MPITrainingOperator(PersiaOperator):
    """Runs `persia <command>` as a job of a back end: on this host, under Slurm, or in Kubernetes.

    The job is known by its name. A task that is tried again, after the scheduler, the worker or the task
    itself died, finds the job of that name and goes on with it; nothing is started twice. While a remote job
    runs, the task is deferred and holds no worker slot. Its output is the task's log, each line with the rank
    that wrote it.

    When the task is failed or cleared, a remote job ends at once, and a local one after two minutes unless
    the next try takes it over: the task's process cannot tell a person who stops it from a scheduler that was
    restarted. The teardown task of the DAG ends it at once.

    :param job: the job's name, templated: `<model>-<ds>-<run>`.
    :param back_end: the section `airflow.back_end` of the configuration, as JSON.
    :param run: the name of the training run, templated. Together with `model` and `partition` it says where
        the buttons RankLogs and TensorBoard lead.
    :param tensorboard_url: of a TensorBoard that shows the working directory, if there is one.
    :param poll: time between two looks at a remote job.
    :param deferrable: hand the watching over to the triggerer; None: for remote jobs only.
    """

    template_fields: Sequence[str] = (*PersiaOperator.template_fields, "job", "run")
    ui_color = "#fdebd0"

    def __init__(
        self,
        *,
        job: str,
        back_end: dict[str, Any],
        run: str = "",
        tensorboard_url: str | None = None,
        poll: timedelta = timedelta(seconds=15),
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.back_end = back_end
        self.run = run
        self.tensorboard_url = tensorboard_url
        self.poll = poll
        self.deferrable = deferrable
        self._killed = threading.Event()
        self._follower: Follower | None = None

    def execute(self, context: Any) -> Any:
        """Submit or find the job, follow it to its end; returns its result."""
        follower = self._follower = self._follow(0)
        self._show(context)
        arguments = self.arguments()
        self.log.info("persia %s", " ".join(arguments))
        result_file = str(follower.job.result_file)
        spec = JobSpec((*self.program, *arguments, "--result-file", result_file), str(project_dir()))
        said = follower.client.submit(follower.job, spec, self.environment())
        self.log.info("job %s %s; its output is %s", follower.job.name, said, follower.job.output)
        if self.deferrable if self.deferrable is not None else follower.client.remote:
            work = str(follower.job.work)
            trigger = JobTrigger(self.back_end, work, self.job, 0, self.poll.total_seconds())
            self.defer(trigger=trigger, method_name="resume")
        tail = deque(follower.skip_to_end(SHOWN_AGAIN), maxlen=TAIL_LINES)
        for line in tail:
            self.log.info("%s", line)
        try:
            active = True
            while active and not self._killed.is_set():
                lines, active = follower.look()
                for line in lines:
                    self.log.info("%s", line)
                tail.extend(lines)
                if active:
                    self._killed.wait(LOOK_EVERY_S)
        except AirflowTaskTimeout:
            self.log.error("the task has had its time: ending the job")
            follower.cancel()
            raise
        if self._killed.is_set():
            raise AirflowException(f"the task was stopped while job {self.job} ran")
        return self._end(context, follower, list(tail))

    def resume(self, context: Any, event: dict[str, Any]) -> Any:
        """Go on after the trigger saw the job end; what it read of the output stands in the log already."""
        follower = self._follow(0)
        self._show(context)
        tail = follower.skip_to_end(TAIL_LINES)
        lines, _ = follower.look()
        for line in lines if follower.offset > event["offset"] else []:
            self.log.info("%s", line)
        return self._end(context, follower, [*tail, *lines][-TAIL_LINES:])

    def on_kill(self) -> None:
        """Let go of the job: it ends, unless another try of this task takes it over."""
        self._killed.set()
        if self._follower is not None:
            self.log.info("letting go of job %s", self.job)
            self._follower.client.abandon(self._follower.job)

    def _show(self, context: Any) -> None:
        """Let the buttons be there while the job runs: Airflow itself stores addresses when a task ends."""
        if not self.run:
            return
        self.addresses = buttons.of_run(self.model, self.partition, self.run, self.tensorboard_url)
        if (task_instance := context.get("ti")) is not None:
            for link in self.operator_extra_links:
                task_instance.xcom_push(link.xcom_key, self.addresses[link.name])

    def _follow(self, offset: int) -> Follower:
        return Follower.of(self.back_end, work_dir(project_dir()), self.job, offset)

    def _end(self, context: Any, follower: Follower, tail: list[str]) -> Any:
        status = follower.client.status(follower.job)
        if status.phase is not Phase.ENDED or status.exit_code is None:
            raise AirflowException(
                f"job {self.job} is {status.phase}: {status.note or 'it left no exit code'}"
            )
        if status.exit_code != ExitCode.OK:
            raise failure_of(context, self.arguments(), status.exit_code, tail, self.skip_on)
        result = follower.job.result()
        self.record_assets(context, result)
        return result
