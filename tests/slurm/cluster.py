"""A real Slurm of one node on this host: controller and node daemon from unpacked packages, without root.

`make slurm-tests` unpacks Debian's packages into build/slurm; nothing is installed.
"""

import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from persia_core.platform.ports import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2] / "build" / "slurm" / "root"
LIBRARIES = ROOT / "usr/lib/x86_64-linux-gnu"
CONTROLLER, NODE, STEP = (ROOT / "usr/sbin" / f"{name}-wlm" for name in ("slurmctld", "slurmd", "slurmstepd"))

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool
SlurmctldPidFile={here}/controller.pid
SlurmdPidFile={here}/node.pid
PluginDir={plugins}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=15
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SwitchType=switch/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class SlurmCluster:
    """Daemons that run, and the environment in which Slurm's programs find them."""

    here: Path
    environment: dict[str, str]
    daemons: list["subprocess.Popen[bytes]"]

    def stop(self) -> None:
        for daemon in self.daemons:
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            daemon.wait()


def there_is_slurm() -> bool:
    return all(program.exists() for program in (CONTROLLER, NODE, STEP))


def start_slurm(here: Path) -> SlurmCluster:
    """Start both daemons and wait until the node takes jobs."""
    for name in ("state", "spool"):
        (here / name).mkdir(parents=True)
    conf = here / "slurm.conf"
    conf.write_text(
        CONF.format(
            host=socket.gethostname().partition(".")[0],
            user=os.environ.get("USER") or "root",
            here=here,
            plugins=LIBRARIES / "slurm-wlm",
            controller_port=free_port(16817),
            node_port=free_port(16818),
        )
    )
    environment = os.environ | {
        "SLURM_CONF": str(conf),
        "LD_LIBRARY_PATH": f"{LIBRARIES}:{LIBRARIES / 'slurm-wlm'}",
        "PATH": f"{ROOT / 'usr/bin'}:{os.environ['PATH']}",
    }
    cluster = SlurmCluster(here, environment, [])
    for name, command in (
        ("controller", [str(CONTROLLER), "-D", "-f", str(conf)]),
        ("node", [str(NODE), "-D", "-f", str(conf), "-d", str(STEP)]),
    ):
        with (here / f"{name}.log").open("wb") as log:
            daemon = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        cluster.daemons.append(daemon)
    sinfo = [shutil.which("sinfo", path=environment["PATH"]) or "sinfo", "--noheader", "--format=%T"]

    def idle() -> bool:
        done = subprocess.run(sinfo, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() == "idle"

    try:
        wait_for(idle, "an idle node")
    except BaseException:
        cluster.stop()
        raise
    return cluster
