"""A Slurm cluster of one node on the loopback interface, for tests.

Each cluster lives in its own temporary folder (configuration, munge key, spool, logs). Its three daemons are children
of the test process: started here, stopped here by process id, and stopped by the kernel should the test process die.
The node declares more CPUs, memory and GPUs than the machine has, so that jobs with a real cluster's demands can run.
Credentials expire after 15 s, not 120: a requeued job waits for that.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "setpriv")
PACKAGES = ("slurm-wlm", "munge", "util-linux")
INSTALL_TIMEOUT = 240
FINISHED = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=15
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=600
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mib} Gres=gpu:{gpus} State=UNKNOWN
{partitions}
"""


def missing_reason(programs: Sequence[str] = PROGRAMS, packages: Sequence[str] = PACKAGES) -> str | None:
    """Why these programs cannot be used here, after trying to install them; None when they can."""
    search_path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

    def missing() -> list[str]:
        return [program for program in programs if not shutil.which(program, path=search_path)]

    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL=1: the packages' own daemons are not to be started.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        install = ["apt-get", "install", "-qy", "--no-install-recommends", *packages]
        for command in (["apt-get", "update", "-q"], install):
            try:
                subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_TIMEOUT, check=True)
            except (subprocess.SubprocessError, OSError) as error:
                return f"{', '.join(missing())} cannot be installed: {error}"
    os.environ["PATH"] = search_path
    return f"no {', '.join(missing())}; install Debian's {', '.join(packages)}" if missing() else None


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@dataclass
class SlurmCluster:
    """Use as a context manager; ``partitions`` maps a name to its time limit."""

    partitions: Mapping[str, str]
    cpus: int = 64
    memory_mib: int = 512_000
    gpus: int = 4
    folder: Path = field(init=False)
    environment: dict[str, str] = field(init=False)
    _daemons: list[subprocess.Popen[bytes]] = field(init=False, default_factory=list)

    def __enter__(self) -> SlurmCluster:
        # Directly below /tmp: the path of a unix socket may not exceed 107 bytes, and munge wants it to be reachable.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-test-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        try:
            self._configure()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._daemons) == 3:
            self.run("scancel", "--full", "--me", check=False)
            deadline = time.monotonic() + 60
            while self.run("squeue", "--noheader", check=False).strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        ctld_port, slurmd_port = free_ports(2)
        default = next(iter(self.partitions))
        (self.folder / "slurm.conf").write_text(
            SLURM_CONF.format(
                host=host,
                user=getpass.getuser(),
                folder=self.folder,
                ctld_port=ctld_port,
                slurmd_port=slurmd_port,
                cpus=self.cpus,
                memory_mib=self.memory_mib,
                gpus=self.gpus,
                partitions="\n".join(
                    f"PartitionName={name} Nodes={host} MaxTime={limit} Default={'YES' if name == default else 'NO'}"
                    for name, limit in self.partitions.items()
                ),
            )
        )
        # A GPU must be a file of its own; with task/none nothing opens it.
        devices = [self.folder / f"gpu{index}" for index in range(self.gpus)]
        for device in devices:
            device.touch()
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
        # No plugin configured here touches a cgroup. Before 23.11 one had to be named all the same; v1's does nothing
        # until it is used.
        version = tuple(int(part) for part in self.run("slurmd", "-V").split()[-1].split(".")[:2])
        plugin = "disabled" if version >= (23, 11) else "cgroup/v1"
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")

    def _start(self) -> None:
        munge_files = [f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("key", "pid", "seed")]
        socket_path = self.folder / "munge.socket"
        self._launch("munged", "--foreground", "--force", f"--socket={socket_path}", "--num-threads=2", *munge_files)
        self.wait_for(socket_path.exists, 20, "munged to open its socket")
        config = str(self.folder / "slurm.conf")
        self._launch("slurmctld", "-D", "-i", "-f", config)
        self._launch("slurmd", "-D", "-f", config)
        self.wait_for(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%t", check=False), 60, "an idle node")

    def _launch(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out", "wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def wait_for(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            dead = [daemon.args[3] for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                what = f"{what}; {', '.join(dead)} died" if dead else what
                raise TimeoutError(f"waited {timeout:.0f} s for {what}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self, lines: int = 15) -> str:
        """The last lines of every daemon's log."""
        parts = []
        for file in sorted(self.folder.glob("*.out")):
            tail = "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
            parts.append(f"--- {file.name}\n{tail}")
        return "\n".join(parts)

    def run(self, *command: str, check: bool = True, cwd: Path | None = None, **environment: str) -> str:
        """Run a Slurm client against this cluster and return its output."""
        done = subprocess.run(
            command, env={**self.environment, **environment}, cwd=cwd, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, script: str, *options: str, cwd: Path, **environment: str) -> int:
        """``sbatch`` a script in ``cwd`` with these environment variables added; the job's id."""
        return int(self.run("sbatch", "--parsable", *options, script, cwd=cwd, **environment).split(";")[0])

    def job(self, job_id: int) -> dict[str, str]:
        """The fields of ``scontrol show job``."""
        text = self.run("scontrol", "--oneliner", "show", "job", str(job_id))
        return dict(item.split("=", 1) for item in text.split() if "=" in item)

    def state(self, job_id: int) -> str:
        return self.job(job_id)["JobState"]

    def wait(self, job_id: int, timeout: float) -> str:
        """Wait until the job is over; its final state."""
        self.wait_for(lambda: self.state(job_id) in FINISHED, timeout, f"the end of job {job_id}")
        return self.state(job_id)
