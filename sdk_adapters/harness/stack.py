"""A service of one's own on this machine: GPUs that do not exist, pictures that are prepared.

For loads that name no service, for searches for a capacity, for chaos. Scheduler
and actors are one role, each gateway is another, so that a gateway can be killed and come
back at its address. What runs is `sana-gateway serve head` and `serve gateway`, as operators
start them; the pool is the scenario's, so that the simulator predicts for the same one.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

from sana_gateway import CallError, GatewayError
from scheduler.scenario import ConfigurationError
from scheduler.scenario.pool import PoolSpec
from sdk_adapters.harness import processes
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.ports import free_port
from sdk_adapters.harness.report.environment import hardware
from sdk_adapters.harness.report.model import Service

TAG: Final = "SANA_LOAD_STACK"
"""Variable by which all that a stack started is known, whoever its parent became. It does not
begin as the service's own do: those that it does not know it refuses."""
LOG: Final = "service.log"
"""Name of the file with what the service logs."""
GATEWAY: Final = "gateway.cli"
"""What runs the roles of the service."""
TURN: Final = "sdk_adapters.harness.networks.turn_server"
"""What runs the TURN server."""
MODEL: Final = "simulated"
SIZES: Final = {"canned": (160, 88), "encoded": (320, 176)}
"""Of the pictures: small ones leave the machine to what is measured, and a marker needs room."""
MOST_ACTORS: Final = 16
"""Actors of a stack on one machine; a scenario with more has to say how many it needs."""
START_S: Final = 120.0
"""How long the service may take to serve; Ray takes its time on a loaded machine."""
STOP_S: Final = 40.0
"""How long a role may take to end in order; then it is killed."""
_LOOK_S: Final = 0.05
_LAST_WORDS: Final = 3000
_SECONDS: Final = ("reconnect_window", "park_after", "park_detached_after", "repurpose_after")
"""Rules of the pool that a service is told, as options in seconds."""

Backend = Literal["in-process", "ray"]


class StackError(Exception):
    """The service did not start."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What is started."""

    pool: PoolSpec
    actors: int | None = None
    """None: the pool's `gpus`."""
    gateways: int = 1
    killable: bool = False
    """Whether actors and scheduler can be killed one by one: processes of their own, by Ray.
    Otherwise they are threads of one process, which starts in a fifth of the time."""
    media_workers: int = 0
    """Of each gateway, behind a front door; 0: each is one process."""
    video: Literal["canned", "encoded"] = "canned"
    """Prepared pictures, or such as are encoded for each session."""
    turn: bool = False
    """Whether a TURN server runs beside it."""
    host: str = "127.0.0.1"
    """Address that the gateways listen on."""

    @property
    def backend(self) -> Backend:
        """What runs the actors."""
        return "ray" if self.killable else "in-process"

    @property
    def count(self) -> int:
        """How many actors run.

        Raises:
            ConfigurationError: More than fit on a machine.
        """
        count = self.pool.gpus if self.actors is None else self.actors
        if not 1 <= count <= MOST_ACTORS:
            raise ConfigurationError(
                f"a service of one's own has 1 to {MOST_ACTORS} actors, the scenario's pool has "
                f"{count}: change pool.gpus, or put the load on a service that runs (--target)"
            )
        return count

    def model(self) -> dict[str, str]:
        """Returns the options of the model that stands for the pool's."""
        costs = self.pool.model
        width, height = SIZES[self.video]
        return {
            "chunk_ms": f"{costs.chunk_ms:g}",
            # The simulator draws from a normal distribution, the model from an even one.
            "jitter_ms": f"{costs.chunk_jitter_ms * math.sqrt(3):g}",
            "resident_slots": str(self.pool.resident_slots),
            "size": f"{width}x{height}",
            "video": self.video,
        }

    def head(self) -> list[str]:
        """Returns the words of `serve head`."""
        words = ["--model", MODEL, "--actors", str(self.count), "--backend", self.backend]
        words += ["--policy", self.pool.policy, "--placement-port", "0"]
        for name, value in self.model().items():
            words += ["--model-option", f"{name}={value}"]
        for name in _SECONDS:
            if name in self.pool.rules:
                words += [f"--{name.replace('_', '-')}", f"{self.pool.rules[name]:g}s"]
        return words

    def notes(self) -> tuple[str, ...]:
        """Returns what differs from the scenario's pool, in sentences."""
        said = [f"Own stack: {MODEL}, {self.video} video, {self.count} actors ({self.backend})."]
        if self.turn:
            said.append("Own stack: a TURN server on the same machine, over UDP.")
        if other := sorted(self.pool.rules.keys() - set(_SECONDS)):
            said.append(
                f"The pool's rules {', '.join(other)} are the simulator's alone: "
                "a service cannot be told them."
            )
        return tuple(said)


class Role:
    """One process of the service, and all that it started."""

    def __init__(self, name: str, words: Sequence[str], tag: str, folder: Path, log: Path) -> None:
        """Prepares; `start` starts it.

        Args:
            name: What it is, for errors.
            words: The module that is run, and its words, without `--ready-file`.
            tag: Value of `TAG`.
            folder: A place for files of its own.
            log: Where it logs.
        """
        self.name = name
        self.told: Mapping[str, object] = {}
        """What it announced."""
        self._words = words
        self._tag = tag
        self._ready = folder / f"{name.replace(' ', '-')}.ready"
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process; None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def members(self) -> list[int]:
        """Returns all its processes that live."""
        return processes.tagged(TAG, self._tag)

    async def start(self) -> None:
        """Starts it, and waits until it serves.

        Raises:
            StackError: It ended instead, or took too long; with its last words.
        """
        self._ready.unlink(missing_ok=True)
        with self._log.open("ab") as sink:
            self._process = await self._spawn(sink)
        deadline = time.monotonic() + START_S
        while not (announced := self._announced()):
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise StackError(f"the {self.name} did not start:\n{self._last_words()}")
            await asyncio.sleep(_LOOK_S)
        self.told = json.loads(announced)

    async def stop(self) -> None:
        """Ends it in order, or at once where it does not; repeating it is no error."""
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Ends it and all that it started, as `kill -9` does."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        for pid in self.members():
            processes.send(pid, signal.SIGKILL)
        await process.wait()

    async def _spawn(self, sink: IO[bytes]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sdk_adapters.harness.tethered"),
            *(*self._words, "--ready-file", str(self._ready)),
            # Held open by this process alone: they end with it, even if it is killed.
            stdin=asyncio.subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env={**os.environ, TAG: self._tag},
            # Ctrl-C is for the harness, which then ends them in its own order.
            start_new_session=True,
        )

    def _announced(self) -> str:
        try:
            text = self._ready.read_text()
        except OSError:
            return ""
        return text if text.endswith("\n") else ""

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-_LAST_WORDS:]


@dataclass
class Stack:
    """A running service."""

    options: StackOptions
    target: Target
    service: Service
    """What a report says of it."""
    head: Role
    """Scheduler and actors."""
    gateways: Sequence[Role]
    log: Path
    notes: tuple[str, ...] = field(default=())

    def fallen(self) -> tuple[str, ...]:
        """Returns which of its roles have ended by themselves, in sentences."""
        return tuple(
            f"The {role.name} of the service that was started for the run ended by itself: see "
            f"{self.log.name}."
            for role in (self.head, *self.gateways)
            if role.pid is None
        )

    async def revive(self, gateway: int = 0) -> None:
        """Kills a gateway and starts another one at its address.

        Raises:
            StackError: It did not start.
        """
        await self.gateways[gateway].kill()
        await self.gateways[gateway].start()


@asynccontextmanager
async def own_stack(options: StackOptions, folder: Path) -> AsyncIterator[Stack]:
    """Starts a service, and ends it with all that it started, whatever happens.

    Args:
        options: What to start.
        folder: Where its log goes; made if need be.

    Raises:
        StackError: It did not start; with its last words.
        ConfigurationError: It would not fit on a machine.
    """
    words = options.head()
    log = folder / LOG
    await asyncio.to_thread(_emptied, log)
    async with AsyncExitStack() as running:
        # Sockets lie in it, whose paths are short by nature: not in the output folder.
        own = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sana-load-")))
        tag, storage = uuid.uuid4().hex, own / "storage"
        storage.mkdir()

        async def role(name: str, *words: str) -> Role:
            made = Role(name, words, f"{tag}-{name.replace(' ', '-')}", own, log)
            running.push_async_callback(made.stop)
            await made.start()
            return made

        shared = ("--storage-root", str(storage))
        head = await role("head", GATEWAY, "serve", "head", *words, *shared)
        placement = ("--placement-address", str(head.told["placement"]))
        gateways = [
            await role(
                f"gateway {number}",
                *(GATEWAY, "serve", "gateway", *placement, *shared, "--host", options.host),
                *("--http-port", str(free_port(options.host))),
                *("--grpc-port", str(free_port(options.host))),
                *("--media-workers", str(options.media_workers)),
            )
            for number in range(options.gateways)
        ]
        target = Target(
            grpc=tuple(str(each.told["grpc"]) for each in gateways),
            http=tuple(str(each.told["http"]).removeprefix("http://") for each in gateways),
            turn=str((await role("TURN server", TURN)).told["turn"]) if options.turn else "",
        )
        await _all_serve(target, options.count)
        yield Stack(options, target, _service(options), head, gateways, log, options.notes())


def _emptied(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")


async def _all_serve(target: Target, actors: int) -> None:
    """Waits until all actors serve: the first makes a gateway ready."""
    async with target.client() as client:
        try:
            async with asyncio.timeout(START_S):
                while True:
                    with suppress(CallError):
                        pool = await client.describe_pool()
                        if sum(each.healthy for each in pool.actors) >= actors:
                            return
                    await asyncio.sleep(_LOOK_S)
        except (TimeoutError, GatewayError) as error:
            raise StackError(f"of {actors} actors some do not serve: {error!r}") from error


def _service(options: StackOptions) -> Service:
    config = {
        "own_stack": "true",
        "backend": options.backend,
        "actors": str(options.count),
        "policy": options.pool.policy,
        **{f"model.{name}": value for name, value in options.model().items()},
    }
    return Service(
        gateways=options.gateways,
        model=MODEL,
        video=options.video,
        config=config,
        hardware=hardware(),
    )
