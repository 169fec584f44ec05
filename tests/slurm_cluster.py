"""A real Slurm of one node on this machine, as long as a test needs it: munged, slurmctld and slurmd on loopback."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
CONFIG = """
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def path_with_system_programs() -> str:
    """PATH, and the folders in which Debian keeps daemons: users other than root do not have them there."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing() -> list[str]:
    """Programs that this machine lacks, in words for a skipped test."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path_with_system_programs()) is None]
    return lacking if os.geteuid() == 0 else [*lacking, "root's rights"]


@contextlib.contextmanager
def cluster(folder: Path, patience: float = 40.0):
    """Start the three daemons below ``folder``, yield the environment that leads programs to them, and stop them."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ports = _free_ports(2)
    host = socket.gethostname().split(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, controller_port=ports[0], node_port=ports[1]))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    for path, mode in ((key, 0o600), (folder, 0o755)):
        path.chmod(mode)
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": path_with_system_programs()}
    munge = [f"--{what}={folder / name}" for what, name in _MUNGE_FILES.items()]
    commands = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]]
    with contextlib.ExitStack() as stack:
        for command in commands:
            log = stack.enter_context(open(folder / f"{command[0]}.out", "wb"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(_stop, process)
        end = time.monotonic() + patience
        while "idle" not in (state := _node_state(environment)):
            if time.monotonic() > end:
                said = "\n".join(f"{c[0]}: {(folder / f'{c[0]}.out').read_text()[-1500:]}" for c in commands)
                raise RuntimeError(f"the node is {state!r} after {patience:.0f} s\n{said}")
            time.sleep(0.2)
        yield environment
        subprocess.run(["scancel", "--state=RUNNING"], env=environment, timeout=20, check=False)
        subprocess.run(["scancel", "--state=PENDING"], env=environment, timeout=20, check=False)


_MUNGE_FILES = {
    "key-file": "munge.key",
    "socket": "munge.socket",
    "pid-file": "munged.pid",
    "log-file": "munged.log",
    "seed-file": "munge.seed",
}


def _node_state(environment) -> str:
    answer = subprocess.run(
        ["sinfo", "--noheader", "--format=%t"], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    return answer.stdout.strip() or answer.stderr.strip()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
