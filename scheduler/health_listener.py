"""Liveness, readiness, startup and metrics of the scheduler and of model actors, over HTTP.

One listener for all parts of a machine: it asks each on its socket (`scheduler.process.
vital_signs`). *Startup* is over once the command that owns it says so; it *lives* as long as what
it stands on does; it is *ready* while a part of every role that belongs here serves. A model
actor serves once it has computed a warm-up window, and no more once it is being emptied.

For operators and scrapers alone: it listens on the loopback unless told otherwise, and tells
nothing of any session.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import REGISTRY

from scheduler.backends.loop_thread import LoopThread
from scheduler.core.errors import ConfigurationError
from scheduler.metrics import tell_process
from scheduler.process.exposition import Merged, merged, open_metrics
from scheduler.process.footprint import process_name
from scheduler.process.vital_signs import FOLDER, Condition, ask, read

LOOPBACK: Final = "127.0.0.1"
SCHEDULER: Final = "scheduler"
ACTOR: Final = "actor"
_MISSING: Final = {
    SCHEDULER: "the scheduler does not serve yet",
    ACTOR: "no model actor has computed its warm-up window yet",
}
_START_S: Final = 10.0

_log = structlog.get_logger(__name__)


class HealthListener:
    """Answers for the parts of this machine, on a thread of its own.

    Args:
        host: Address to listen on.
        port: Its port; 0 takes a free one.
        role: What this process is.
        needs: Roles of which one part has to serve; none: any part has.

    Raises:
        ConfigurationError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        role: str,
        needs: Collection[str],
    ) -> None:
        self._role = role
        self._needs = tuple(needs)
        self._lives: Callable[[], bool] = lambda: True
        self.started = False
        """Whether the start of this process is over."""
        self.draining = False
        """Whether it was told to end."""
        said = os.environ.get(FOLDER, "")
        self._own = None if said else Path(tempfile.mkdtemp(prefix="sana-v-"))
        self._folder = self._own or Path(said)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whatever is started from here on tells there how it is.
        os.environ[FOLDER] = str(self._folder)
        tell_process(role)
        self._loop = LoopThread("sana-health")
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where it listens."""
        try:
            self.url = self._loop.run(self._start(host, port), _START_S)
        except BaseException:
            self.stop()
            raise

    def serves(self, lives: Callable[[], bool]) -> None:
        """The start of this process is over.

        Args:
            lives: Tells whether what it stands on still runs.
        """
        self._lives, self.started = lives, True

    def stop(self) -> None:
        """Stops listening. Repeating it is no error."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._loop.run(runner.cleanup())
        self._loop.close()
        own, self._own = self._own, None
        if own is not None:
            os.environ.pop(FOLDER, None)
            shutil.rmtree(own, ignore_errors=True)

    async def _start(self, host: str, port: int) -> str:
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/startupz", self._startupz),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = self._runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            known = error.errno in errno.errorcode
            why = os.strerror(error.errno or 0) if known else error.strerror
            raise ConfigurationError(f"health cannot listen on {host}:{port}: {why}") from error
        bound = runner.addresses[0]
        url = f"http://{bound[0]}:{bound[1]}"
        _log.info("health.listening", url=url)
        return url

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict("" if self._lives() else "what it stands on has ended")

    async def _startupz(self, _: web.Request) -> web.Response:
        return _verdict("" if self.started else "it starts")

    async def _readyz(self, _: web.Request) -> web.Response:
        if not self.started:
            return _verdict("it starts")
        if self.draining:
            return _verdict("it is being drained")
        return _verdict(why_not_ready(await self._conditions(), self._needs))

    async def _metrics(self, request: web.Request) -> web.Response:
        texts = {self._role: open_metrics(REGISTRY)}
        told = {process_name()}
        for path, condition in zip(*await self._parts(), strict=True):
            if condition is not None and condition.process not in told:
                told.add(condition.process)
                name = condition.role if condition.role == SCHEDULER else condition.name
                texts[name] = (await ask(path, "metrics")).decode(errors="replace")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(lambda: encode(Merged(merged(texts))))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _conditions(self) -> list[Condition]:
        return [each for each in (await self._parts())[1] if each is not None]

    async def _parts(self) -> tuple[list[Path], list[Condition | None]]:
        """Asks all parts how they are."""
        paths = await asyncio.to_thread(lambda: sorted(self._folder.glob("*-*")))
        answers = await asyncio.gather(*(ask(path, "condition") for path in paths))
        return paths, [read(answer) for answer in answers]


def why_not_ready(conditions: Collection[Condition], needs: Collection[str]) -> str:
    """Returns why the parts of a machine do not serve, for people; empty when they do.

    Args:
        conditions: How each part is that has answered.
        needs: Roles of which one part has to serve; none: any part has.
    """
    if not needs:
        found = [each.why_not_ready for each in conditions]
        return "" if "" in found else next(iter(found), "nothing runs here yet")
    for role in needs:
        reasons = [each.why_not_ready for each in conditions if each.role == role]
        if "" not in reasons:
            return next(iter(reasons), _MISSING.get(role, f"there is no {role} yet"))
    return ""


def _verdict(why_not: str) -> web.Response:
    return web.Response(status=503 if why_not else 200, text=f"{why_not or 'ok'}\n")
