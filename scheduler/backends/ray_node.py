"""A Ray node as a child process of ours: `ray start --block` in a session of its own.

No Ray is imported here. Every port is free or chosen by the caller, the folder is our
own, and the end is complete: nothing of the session is left when `stop` returns, and the
node ends by itself when this process dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scheduler.backends import kept_states
from scheduler.core.errors import ConfigurationError, SanaGatewayError
from scheduler.process.priority import NODE, WORKERS

ACTOR_RESOURCE = "sana_actor"
"""Ray resource of which a node has one for every actor it has room for."""
SURGE_RESOURCE = "sana_surge"
"""Ray resource that says how many of these are only for while others are being drained."""
ACTOR_TITLE = "RayShellHost"
"""Part of the title that Ray gives the process of a model actor."""
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray replaces 127.0.0.1 by the address of a network interface; this one it keeps."""

_LONGEST_FOLDER = 40
"""Characters of a folder below which Ray's sockets keep within the 107 of a unix socket."""
_TEMP_ROOT = "/tmp"  # noqa: S108 - a unix socket's path must stay short; the folder in it is private
_POLL_S = 0.05
_TERM_S = 10.0
_DRAIN_ANSWER_S = 10.0
_QUIET = {
    # Idle workers made in advance cost about 60 MB each, and nobody would use them.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Beside that of the node itself, which they inherit (`ray_command`): 15 in all, Ray's default.
    "RAY_worker_niceness": str(WORKERS - NODE),
    # How long a worker that hangs, and so cannot end by itself, keeps its GPU (5 s).
    "RAY_kill_worker_timeout_milliseconds": "500",
    "PYTHONUNBUFFERED": "1",
}


class RayNodeError(SanaGatewayError):
    """A Ray node did not start."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Settings of a Ray node on this host."""

    actors: int = 1
    """Model actors there is room for."""
    surge: int = 0
    """More of them, for as long as others are being drained."""
    head_address: str = ""
    """`host:port` of the head to join; empty: this node is a head."""
    node_ip: str = LOOPBACK
    """Address under which other nodes reach this one."""
    port: int = 0
    """Port of the head; 0: a free one."""
    auth_token: str = field(default="", repr=False)
    """Shared by all nodes of the cluster."""
    num_cpus: int = 0
    """CPUs that Ray may give away; ours take none."""
    num_gpus: int | None = None
    """GPUs that Ray may give away; None: all it finds."""
    object_store_bytes: int = 80 * 1024 * 1024
    """Memory of the object store, at least 75 MiB: nothing of ours goes through it."""
    temp_dir: Path | None = None
    """Folder for sockets and logs; None: a new one, removed at the end."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to add."""
    start_timeout: float = 60.0
    """Seconds until the node must be up."""


class RayNode:
    """A running Ray node.

    Args:
        settings: Settings.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        self.address = settings.head_address
        """`host:port` of the cluster's head."""
        self.folder = settings.temp_dir or Path()
        """Folder of its sockets and logs, once launched."""
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: kept_states.KeptStates | None = None

    @property
    def pid(self) -> int:
        """Process id; also the id of the session that all of the node's processes are in.

        Raises:
            RayNodeError: The node is not running.
        """
        if self._process is None:
            raise RayNodeError("the Ray node is not running")
        return self._process.pid

    def launch(self) -> None:
        """Begins to start the node; `wait_up` must follow.

        Raises:
            ConfigurationError: The folder's path is too long for the sockets in it.
        """
        if self.settings.temp_dir is None:
            self.folder = Path(tempfile.mkdtemp(prefix="sana-", dir=_TEMP_ROOT))
        if len(str(self.folder)) > _LONGEST_FOLDER:
            raise ConfigurationError(
                f"temp_dir must have at most {_LONGEST_FOLDER} characters: Ray puts sockets there"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.settings.head_address:
            port = self.settings.port or free_port()
            self.address = f"{self.settings.node_ip}:{port}"
        self._kept = kept_states.KeptStates()
        kept = {kept_states.FOLDER: str(self._kept.path)}
        with self._log.open("wb") as log:
            # The command is made of settings of the operator alone.
            self._process = subprocess.Popen(  # noqa: S603
                self._command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_QUIET, **kept, **self._auth(), **self.settings.env},
                start_new_session=True,
            )

    def wait_up(self) -> None:
        """Returns once the node takes connections.

        Raises:
            RayNodeError: It ended, or was not up in time; nothing of it is left.
        """
        deadline = time.monotonic() + self.settings.start_timeout
        while not self._is_up():
            if not self.is_running() or time.monotonic() >= deadline:
                words = self._log.read_text(errors="replace").split("\n")
                last = next((line for line in reversed(words) if line.strip()), "nothing")
                self.stop()
                raise RayNodeError(f"the Ray node did not start; it said: {last.strip()}")
            time.sleep(_POLL_S)

    def wait(self) -> int:
        """Blocks until the node ends by itself and returns its exit status."""
        return 0 if self._process is None else self._process.wait()

    def is_running(self) -> bool:
        """Tells whether the node runs."""
        return self._process is not None and self._process.poll() is None

    def drain(self, grace: float, name: str) -> None:
        """Has the cluster leave this node alone, and waits until its actors are gone. Blocks.

        Args:
            grace: Seconds after which it returns come what may.
            name: Part of the title of the processes to wait for.
        """
        deadline = time.monotonic() + grace
        if not self._runs(name) or not self._announce_drain(grace):
            return
        while self.is_running() and time.monotonic() < deadline and self._runs(name):
            time.sleep(_POLL_S)

    def _announce_drain(self, grace: float) -> bool:
        """Tells the head of the cluster; returns whether it has heard."""
        node_id = next((_node_id(words) for words in self._command_lines() if _node_id(words)), "")
        if not node_id:
            return False
        command = [
            *(sys.executable, "-m", "scheduler.backends.ray_drain"),
            *(self.address, node_id, str(grace)),
        ]
        env = {**os.environ, **_QUIET, **self._auth()}
        try:
            done = subprocess.run(  # noqa: S603 - settings of the operator alone
                command, env=env, capture_output=True, timeout=_DRAIN_ANSWER_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _runs(self, name: str) -> bool:
        """Tells whether a process of the node has a title with this name in it."""
        return any(name in " ".join(words) for words in self._command_lines())

    def _command_lines(self) -> Iterator[list[str]]:
        for pid in _session_members(self._process) if self._process else ():
            # Where there is no /proc, nothing is known of them.
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                yield line.decode(errors="replace").split("\0")

    def stop(self) -> None:
        """Ends the node and all it started. Stopping it again does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            # The node's word to end, see `ray_command`.
            process.stdin.close()
        patience = time.monotonic() + (_TERM_S if process.poll() is None else 0.0)
        while members := _session_members(process):
            if time.monotonic() >= patience:
                for pid in members:
                    _kill(pid)
            time.sleep(_POLL_S)
        process.wait()
        if self._kept is not None:
            self._kept.remove()
        if self.settings.temp_dir is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.folder / "ray-start.log"

    def _is_up(self) -> bool:
        """Tells whether the raylet's socket is there: `ray start` makes it last."""
        return any(self.folder.glob("session_2*/sockets/raylet*"))

    def _auth(self) -> dict[str, str]:
        if not self.settings.auth_token:
            return {}
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.settings.auth_token}

    def _resources(self) -> dict[str, int]:
        room = {ACTOR_RESOURCE: self.settings.actors + self.settings.surge}
        return {**room, SURGE_RESOURCE: self.settings.surge} if self.settings.surge else room

    def _command(self) -> list[str]:
        settings = self.settings
        command = [
            *(sys.executable, "-m", "scheduler.backends.ray_command", "start", "--block"),
            f"--node-ip-address={settings.node_ip}",
            f"--temp-dir={self.folder}",
            f"--object-store-memory={settings.object_store_bytes}",
            f"--num-cpus={settings.num_cpus}",
            f"--resources={json.dumps(self._resources())}",
            "--include-log-monitor=false",
            "--disable-usage-stats",
        ]
        if settings.num_gpus is not None:
            command.append(f"--num-gpus={settings.num_gpus}")
        if settings.head_address:
            return [*command, f"--address={settings.head_address}"]
        return [
            *command,
            "--head",
            f"--port={self.address.rpartition(':')[2]}",
            "--include-dashboard=false",
            "--no-monitor",
            *_redis_login(),
        ]


def _redis_login() -> list[str]:
    """Returns the options of `ray start` for a Redis that asks who calls; KubeRay names these
    variables. Ray itself shows them to its control process in the same way.
    """
    logins = {"--redis-username": "REDIS_USERNAME", "--redis-password": "REDIS_PASSWORD"}
    return [
        f"{option}={value}" for option, name in logins.items() if (value := os.environ.get(name))
    ]


def free_port() -> int:
    """Returns a TCP port that was free on the loopback interface a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _node_id(words: Sequence[str]) -> str:
    """Returns the id of the Ray node, from the command line of its raylet."""
    found = (word.partition("=")[2] for word in words if word.startswith("--node_id="))
    return next(found, "")


def _session_members(leader: subprocess.Popen[bytes]) -> list[int]:
    """Returns the living processes of the session that a child leads.

    Ray puts workers into process groups of their own; the session they keep.
    """
    leader.poll()
    table = _proc_table() if Path("/proc/self/stat").exists() else _ps_table()
    return [pid for pid, state in table if state != "Z" and _session_of(pid) == leader.pid]


def _proc_table() -> Iterator[tuple[int, str]]:
    """Yields id and state of every process, from Linux's /proc."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything.
                after_name = (folder / "stat").read_text().rpartition(")")[2]
                yield int(folder.name), after_name.split()[0]


def _ps_table() -> Iterator[tuple[int, str]]:
    """Yields id and state of every process, where there is no /proc."""
    command = ["/bin/ps", "-A", "-o", "pid=,stat="]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    for line in listing.stdout.splitlines():
        pid, state = line.split()
        yield int(pid), state[0]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
