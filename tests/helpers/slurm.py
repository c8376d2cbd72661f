"""A real one-node Slurm on the loopback interface, from Debian's packages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.helpers import debian
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
PACKAGES = ("slurmctld", "slurmd", "munge", "slurm-client")

SETTINGS = """
ClusterName=amltk
GresTypes=gpu
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2
ReturnToService=2
KillWait=2
MinJobAge=2
StateSaveLocation={folder}/control
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
NodeName={node} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""

GPUS = """
Name=gpu File=/dev/null
Name=gpu File=/dev/zero
"""
"""Slurm sets CUDA_VISIBLE_DEVICES for jobs that request some of these; it only needs them to be devices."""


JOBS: dict[str, Any] = {
    "queue": "debug",
    "cores": 1,
    "memory": "1GB",
    "walltime": "00:30:00",
    "interface": "lo",
    "scheduler_options": {"host": "127.0.0.1"},
}
"""The options of `Scheduler.with_slurm` for jobs with one core, without the number of workers."""


def missing() -> str | None:
    """Why Slurm is unavailable here, after trying to install it; None if it is available."""
    return debian.missing(PROGRAMS, PACKAGES)


def jobs() -> list[str]:
    """The ids of the jobs that have not ended."""
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


def wait_until_empty() -> None:
    """Wait until Slurm has cleaned up after the last job."""
    _wait(lambda: not jobs(), "the queue is empty")


@contextmanager
def slurm() -> Iterator[None]:
    """Run it; `sbatch` and the like find it through the environment."""
    with tempfile.TemporaryDirectory(prefix="amltk-slurm-") as name:
        folder = Path(name)
        for part in ("control", "node"):
            (folder / part).mkdir()
        settings = folder / "slurm.conf"
        node = socket.gethostname().partition(".")[0]
        settings.write_text(
            SETTINGS.format(folder=folder, node=node, control_port=_free_port(), node_port=_free_port())
        )
        (folder / "gres.conf").write_text(GPUS)
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(settings)
        try:
            _start(folder, settings)
            yield
            subprocess.run(["scancel", *jobs()], check=False, stderr=subprocess.DEVNULL)
            wait_until_empty()
        finally:
            os.environ.pop("SLURM_CONF")
            if before is not None:
                os.environ["SLURM_CONF"] = before
            _stop(folder)


def _start(folder: Path, settings: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    places = [f"--{name}={path}" for name, path in munge.items()]
    logs = [f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'munged.seed'}"]
    for command in (
        ["munged", "--force", *places, *logs],
        ["slurmctld", "-f", str(settings)],
        ["slurmd", "-f", str(settings)],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_node()


def wait_for_node() -> None:
    """Wait until the node takes jobs."""
    _wait(lambda: _state() in {"idle", "mix", "alloc"}, "the node is ready")


def _state() -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False).stdout.strip()


def _stop(folder: Path) -> None:
    """Stop the daemons, each by its pid."""
    for name in ("slurmd", "slurmctld", "munged"):
        try:
            pid = int((folder / f"{name}.pid").read_text())
            process = psutil.Process(pid)
            process.send_signal(signal.SIGTERM)
            process.wait(GUARD)
        except (FileNotFoundError, psutil.NoSuchProcess):
            pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait(condition: object, what: str) -> None:
    deadline = time.monotonic() + GUARD
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


if __name__ == "__main__":  # for manual experiments
    sys.exit(missing())
