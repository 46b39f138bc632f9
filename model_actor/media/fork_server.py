"""The process that decode workers are forked from, as their owner sees it.

It loads the libraries once, and never sees a video: a worker is there in the time of a fork,
also when the sessions of an actor that died all want theirs at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from typing import Final

import structlog

from model_actor.media.errors import WorkerLostError
from model_actor.media.limits import DecodeLimits
from model_actor.media.sandbox import SandboxStatus
from model_actor.media.wire import FORKED

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")
"""What a worker may see of our environment: no secrets."""
STOP_S = 5.0
"""How long the server may take to end by itself."""
SERVER: Final = "model_actor.media.decode_worker"
"""Module that is the server."""
_HELLO_BYTES: Final = 4096
"""Longest first word of the server."""

_log = structlog.get_logger(__name__)


class WorkerProcess:
    """A decode worker, which is not a child of ours: its descriptor names it for ever, as its
    number does not.
    """

    def __init__(self, pid: int, handle: int) -> None:
        """Takes over the descriptor of a process."""
        self.pid = pid
        self._handle: int | None = handle

    def kill(self) -> None:
        """Ends it at once. Repeating it is no error."""
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self) -> None:
        """Waits until it has ended. Blocks: for a thread."""
        handle, self._handle = self._handle, None
        if handle is not None:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll()
            os.close(handle)


class ForkServer:
    """Makes decode workers. Blocks: for one long-lived thread, with which the server ends.

    Args:
        limits: Of the workers.
        module: What to run as the server; tests add to it.
    """

    def __init__(self, limits: DecodeLimits, module: str = SERVER) -> None:
        self.walls: SandboxStatus | None = None
        """What stands between the workers and this machine; known once the server runs."""
        self._limits = limits
        self._module = module
        self._server: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    def fork(self) -> tuple[WorkerProcess, socket.socket, socket.socket]:
        """Starts a worker. Returns it with our ends of its control and descriptor sockets.

        Raises:
            WorkerLostError: There is no server to be had.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        our_descriptors, their_descriptors = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        with theirs, their_descriptors:
            try:
                process = self._ask(theirs.fileno(), their_descriptors.fileno())
            except OSError as error:
                self.close()
                ours.close()
                our_descriptors.close()
                raise WorkerLostError("decode workers cannot be started") from error
        ours.settimeout(0)
        our_descriptors.settimeout(0)
        return process, ours, our_descriptors

    def close(self) -> None:
        """Ends the server, and with it the workers that are left; returns when they are gone."""
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        server, self._server = self._server, None
        if server is not None:
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _ask(self, *sockets: int) -> WorkerProcess:
        orders = self._running()
        socket.send_fds(orders, [b"\0"], sockets)
        answer, handles, _, _ = socket.recv_fds(orders, FORKED.size, 1)
        if not handles:
            raise ConnectionError("the server of decode workers has ended")
        (pid,) = FORKED.unpack(answer)
        return WorkerProcess(pid, handles[0])

    def _running(self) -> socket.socket:
        """Returns the socket of the server, and starts it where it does not run."""
        if self._server is not None and self._server.poll() is not None:
            self.close()
        if self._orders is not None:
            return self._orders
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(self._limits.start_s)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603 (our own module, our own arguments)
                [
                    sys.executable,
                    "-m",
                    self._module,
                    str(os.getpid()),
                    str(theirs.fileno()),
                    json.dumps(asdict(self._limits)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # What libraries print may hold what users wrote into their files.
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                pass_fds=(theirs.fileno(),),
            )
        self._meet(self._orders)
        return self._orders

    def _meet(self, orders: socket.socket) -> None:
        """Hears which walls the workers have, and says so where some are missing: once, unless
        that changes.

        Raises:
            OSError: The server does not speak.
        """
        told = orders.recv(_HELLO_BYTES)
        if not told:
            raise ConnectionError("the server of decode workers has ended")
        walls = SandboxStatus.unpack(told)
        if walls != self.walls:
            self.walls = walls
            if walls.missing:
                _log.warning("decoders.exposed", missing=walls.missing)
            else:
                _log.info("decoders.walled_in")
