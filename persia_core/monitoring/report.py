"""At the end of a command: count it, keep the count, hand it on. What goes wrong here fails no stage."""

import logging
import re
import socket
import time

from persia_core.config import ModelConfig
from persia_core.config.home import persia_home
from persia_core.config.load import metrics_of_environment
from persia_core.config.metrics import Metrics
from persia_core.exit_codes import ExitCode
from persia_core.monitoring.deliver import push, write_textfile
from persia_core.monitoring.ledger import Ledger
from persia_core.monitoring.names import PUSH_FAILURES, STAGE, STAGES
from persia_core.monitoring.samples import Samples
from persia_core.monitoring.stages import Ended, samples_of

log = logging.getLogger(__name__)

UNKNOWN_MODEL = "unknown"  # the configuration could not be read
DIRECTORY = "metrics"  # under PERSIA_HOME: a directory for each instance


def report(stage: str, config: ModelConfig | None, ds: str | None, ended: Ended) -> None:
    """Tell Prometheus how a stage ended, if there is a destination. Never raises; what fails is said once."""
    if stage not in STAGES or ended.code == ExitCode.USAGE:
        return
    try:
        section = config.metrics if config is not None else metrics_of_environment()
        if section.pushgateway is not None or section.textfile_dir is not None:
            model = config.name if config is not None else UNKNOWN_MODEL
            _deliver(section, model, stage, samples_of(stage, model, config, ds, ended, time.time()))
    except Exception as error:  # a stage must not fail for want of its metrics
        log.warning("the metrics of this stage are lost: %s: %s", type(error).__name__, error)


def _deliver(section: Metrics, model: str, stage: str, new: Samples) -> None:
    instance = section.instance or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "host"
    ledger = Ledger(persia_home() / DIRECTORY / instance, model, stage)
    with ledger.changing():
        new.add(PUSH_FAILURES, 0, **{STAGE: stage})
        together = ledger.read().followed_by(new)
        ledger.write(together)
        try:
            push(section, instance, model, stage, together)
        except OSError as error:
            log.warning("the Pushgateway %s did not take the metrics: %s", section.pushgateway, error)
            missed = Samples(model)
            missed.add(PUSH_FAILURES, 1, **{STAGE: stage})
            together = together.followed_by(missed)
            ledger.write(together)
        write_textfile(section, model, stage, together)
