"""How a session leaves its actor: handed over to another one, parked, or copied.

All three wait for the window under way, take the session between two windows, and keep it.
A session that was handed over is *over* as far as commands and windows go; its *afterlife*
is to show what it has made, by the gateways' clocks, until it is all shown or nobody looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import structlog

from model_actor.engine.controls import Controls
from model_actor.engine.keeping import Keeper, NotKeptError, UnsettledError
from model_actor.engine.participants import Participants
from model_actor.engine.services import EngineServices
from model_actor.engine.session_outputs import GatewayLink
from model_actor.engine.showing import Showing
from model_actor.snapshots.kept import KeptState
from model_actor.snapshots.states import COPY_EPOCH, KeptStates
from sana_gateway_internal.v1 import stream_pb2

log = structlog.get_logger(__name__)

AFTER_SHOWN_S = 10.0
"""A session that was handed over stays so long after its last frame, for who comes late."""
AFTERLIFE_S = 60.0
"""And at most so long, whatever its gateways do."""
UNSETTLED = "the window under way does not end"
NOT_KEPT = "its state could not be kept"


class Departure:
    """Lets one session leave."""

    def __init__(
        self,
        session_id: str,
        epoch: int,
        services: EngineServices,
        keeper: Keeper,
        controls: Controls,
        gateways: Participants,
        showing: Showing,
        *,
        over: Callable[[], None],
        departed: Callable[[], None],
    ) -> None:
        """Prepares.

        Args:
            session_id: Whose.
            epoch: Of its lease.
            services: What the sessions of the actor share.
            keeper: Takes and keeps it.
            controls: Its control snapshots.
            gateways: Who takes part.
            showing: What it has made and not shown.
            over: Called when it is handed over: nothing more is to be decided here.
            departed: Called when nothing is left to be shown.
        """
        self._session_id = session_id
        self._epoch = epoch
        self._services = services
        self._keeper = keeper
        self._controls = controls
        self._gateways = gateways
        self._showing = showing
        self._over = over
        self._departed = departed
        self._tasks: set[asyncio.Task[None]] = set()
        self._handing_over: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._all_shown = False
        self.over = False
        """Whether it was handed over."""

    @property
    def _kept(self) -> KeptStates:
        return self._services.kept

    def hand_over(self, request: stream_pb2.HandOver) -> None:
        """Hands the session over; who asks meanwhile, or later, is told the same."""
        if self.over:
            self._tell_handed_over()
        elif self._handing_over is None and request.epoch > self._epoch:
            self._handing_over = self._begin(self._hand_over(store=request.store))

    async def park(self, *, store: bool) -> str:
        """Keeps the session so that it can end here; returns why it could not."""
        try:
            async with self._keeper.between_windows():
                state = await self._keeper.take(shown=True)
                kept = await (
                    self._kept.store(self._session_id, self._epoch, state)
                    if store
                    else self._keeper.write(state)
                )
                if kept:
                    self._end()
                return "" if kept else NOT_KEPT
        except UnsettledError:
            return UNSETTLED
        except Exception as error:  # a model may raise anything, and quote the prompt
            log.warning("session.not_parked", session_id=self._session_id, error=_kind(error))
            return NOT_KEPT

    def copy(self, gateway_id: str, copies: Iterable[str]) -> None:
        """Copies the session as it is; a gateway is told what the copies begin from."""
        asker = self._gateways.get(gateway_id)
        if asker is not None:
            self._begin(self._copy(asker, list(copies)))

    def shown(self) -> None:
        """In its afterlife: something more was shown."""
        if self.over and self._showing.all_shown and not self._all_shown:
            self._all_shown = True
            self._wait(AFTER_SHOWN_S)

    def abandoned(self) -> None:
        """In its afterlife: nobody looks any more."""
        self._wait(0.0)

    async def close(self) -> None:
        """Ends what is under way."""
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        own = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hand_over(self, *, store: bool) -> None:
        try:
            async with self._keeper.between_windows():
                await self._keep_for_another(await self._keeper.take(), store=store)
                # Commands were taken until now; from here on the other actor takes them.
                self._end()
                self._tell_handed_over()
        except Exception as error:  # it stays, and the gateway goes by what it has
            if not isinstance(error, UnsettledError):
                kind = type(error).__name__
                log.warning("session.not_handed_over", session_id=self._session_id, error=kind)
            refused = stream_pb2.HandedOver(session_id=self._session_id)
            self._gateways.tell(stream_pb2.ControlResponse(handed_over=refused))
            return
        finally:
            self._handing_over = None
        self._wait(AFTERLIFE_S)
        self.shown()
        log.info("session.handed_over", session_id=self._session_id, epoch=self._epoch)

    async def _keep_for_another(self, state: KeptState, *, store: bool) -> None:
        """Keeps a state where the other actor looks for it: the host first, then the storage.

        Raises:
            NotKeptError: Neither took it: the other actor would have to begin anew.
        """
        kept = await self._keeper.write(state)
        if state.model is not None and (store or not kept):
            kept = await self._kept.store(self._session_id, self._epoch, state)
        if state.model is not None and not kept:
            raise NotKeptError(NOT_KEPT)

    async def _copy(self, asker: GatewayLink, copies: list[str]) -> None:
        copied = stream_pb2.Copied(session_id=self._session_id)
        try:
            async with self._keeper.between_windows():
                state = await self._keeper.take(shown=True)
                snapshot = self._controls.snapshot()
                kept = state.model is None or await self._keeper.write(state)
            kept = await self._kept.copy(self._session_id, self._epoch, copies) and kept
        except UnsettledError:
            copied.failure = UNSETTLED
        except Exception as error:  # a model may raise anything, and quote the prompt
            log.warning("session.not_copied", session_id=self._session_id, error=_kind(error))
            copied.failure = NOT_KEPT
        else:
            if not kept:
                log.warning("session.not_copied", session_id=self._session_id, error="NotKept")
            # A copy without the model's state begins it anew, and says so.
            snapshot.epoch = COPY_EPOCH
            copied.copies.extend(copies)
            copied.snapshot.CopyFrom(snapshot)
        if self._gateways.get(asker.gateway_id) is not asker:
            # Nobody will ever ask for these copies.
            for each in copies:
                await self._kept.drop(each, COPY_EPOCH)
            return
        asker.control(stream_pb2.ControlResponse(copied=copied))

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._over()

    def _tell_handed_over(self) -> None:
        for link in self._gateways.links():
            snapshot = self._controls.snapshot(link.gateway_id)
            told = stream_pb2.HandedOver(session_id=self._session_id, snapshot=snapshot)
            link.control(stream_pb2.ControlResponse(handed_over=told))

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._departed)

    def _begin(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _kind(error: BaseException) -> str:
    return type(error).__name__
