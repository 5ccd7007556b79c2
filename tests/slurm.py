"""A SLURM cluster of one host for tests: munge, slurmctld and two slurmd, by Debian's packages.

They are installed only if INSTALL_SLURM=1 says so.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SlurmUnavailable", "slurm_cluster"]


class SlurmUnavailable(Exception):
    """SLURM is not here; the reason, and what would bring it."""


def _install() -> None:
    if shutil.which("slurmctld"):
        return
    if os.environ.get("INSTALL_SLURM") != "1":
        raise SlurmUnavailable(
            "SLURM is not installed; INSTALL_SLURM=1 make test-slow installs Debian's packages"
        )
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SlurmUnavailable("INSTALL_SLURM=1: only root on Debian can install SLURM")
    for words in (["update"], ["install", "-y", "-q", "slurm-wlm", "munge"]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            ["apt-get", *words], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SlurmUnavailable(f"apt-get {words[0]} failed: {done.stderr.strip()[-200:]}")


@contextlib.contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons; yields the environment that SLURM's commands need."""
    _install()
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    for name in ("state", "spool1", "spool2", "munge"):
        (folder / name).mkdir(mode=0o700)
    fake = folder / "fake-gpu"
    fake.touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={fake}\n")
    conf.write_text(
        f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort=26817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port=26818 CPUs=1 Gres=gpu:1 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port=26819 CPUs=1 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    for name in ("one", "two"):
        (folder / f"spool{name}").mkdir(mode=0o700)
    environment = {"SLURM_CONF": str(conf)}
    started = []

    def start(*words: str) -> None:
        started.append(
            subprocess.Popen(
                words,
                env=os.environ | environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    subprocess.run(["munged", "--force"], check=False, capture_output=True, user="munge")
    try:
        start("slurmctld", "-D", "-f", str(conf))
        for name in ("one", "two"):
            start("slurmd", "-D", "-N", name, "-f", str(conf))
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=1800)


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(600):
        state = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=os.environ | environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if state.stdout.split() == ["idle"]:
            return
        time.sleep(1)
    logs = "\n".join(path.read_text()[-800:] for path in folder.glob("*.log"))
    raise SlurmUnavailable(f"the daemons did not come up: {state.stdout} {logs}")
