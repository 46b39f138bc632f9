"""Gets sessions to their actors: the scheduler is asked until each has its place.

One that is new may be refused. One that existed before is given up only when the scheduler
says that it has ended: while the scheduler is away, knows no actor of the model, or names
one that is dead, it is asked again, after growing pauses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from gateway.links import ActorLinks, LinkDeadError
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.session import GatewaySession
from sana_gateway.v1 import session_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.errors import (
    AskedElsewhereError,
    NoCapacityError,
    NotReadyError,
    RequestError,
    SessionClosedError,
    UnknownSessionError,
)

log = structlog.get_logger(__name__)

AWAY_S = 15.0
"""How long the creation of a session waits for a scheduler that does not answer."""
FIRST_PAUSE_S = 0.1
"""Pause before the scheduler is asked again; it grows up to the next."""
MOST_PAUSE_S = 5.0
GROWTH: Final = 1.5
DIAL_AGAIN_S = 0.5
"""How long an actor whose link has just died may take to be reached again; then the scheduler is
told so, by asking it once more."""
OTHERS_S = 5.0
"""How long a session is only looked for after another gateway has asked for its place."""
MOVE_TRIES: Final = 3
"""How often a new actor is dialled; after that the scheduler gives the move up."""
WORKER_DIED: Final = "its worker died"


def pause_s(tries: int) -> float:
    """Returns how long to wait after so many tries."""
    return min(MOST_PAUSE_S, FIRST_PAUSE_S * GROWTH ** min(tries, 30))


class Seeking:
    """The searches of a gateway, at most one a session."""

    def __init__(
        self,
        placement: PlacementClient,
        links: ActorLinks,
        ended: Callable[[GatewaySession, str], None],
    ) -> None:
        """Seeks nothing yet.

        Args:
            placement: The scheduler.
            links: The actors.
            ended: Called with a session that has ended, and why.
        """
        self._placement = placement
        self._links = links
        self._ended = ended
        self._searches: dict[str, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[None]] = {}
        """Whether the scheduler takes a session, until it is placed."""
        self._refusals: dict[str, int] = {}
        """How often actors have refused a session since it was last at one."""
        self._moves: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Ends all searches."""
        tasks = [*self._searches.values(), *self._moves]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def answered(self, session: GatewaySession) -> None:
        """Waits until the scheduler has taken a session or refused it.

        Raises:
            RequestError: It was refused.
        """
        answer = self._answers.get(session.session_id)
        if answer is not None:
            await asyncio.shield(answer)

    def seek(self, session: GatewaySession, reason: str = WORKER_DIED) -> None:
        """Asks for a place until there is one, unless that is being done.

        Args:
            session: Whose place.
            reason: Why it has none, for people, should it have ended.
        """
        self._begin(session, self._place(session, reason))

    def begin(self, session: GatewaySession) -> None:
        """Asks for the place of a session that may be refused; see `answered`."""
        answer = asyncio.get_running_loop().create_future()
        self._answers[session.session_id] = answer
        answer.add_done_callback(_seen)
        self.seek(session, "")

    def follow(self, session: GatewaySession) -> None:
        """Looks for the place to which a session was handed over."""
        self._begin(session, self._follow(session))

    def move(self, session: GatewaySession, lease: placement_pb2.Lease) -> None:
        """Takes a session to the actor that it is to move to."""
        self.give_up(session)
        task = asyncio.create_task(self._move(session, lease))
        self._moves.add(task)
        task.add_done_callback(self._moved)

    def opened(self, session: GatewaySession) -> None:
        """A session is at its actor."""
        self._refusals.pop(session.session_id, None)

    def refused(self, session: GatewaySession) -> None:
        """An actor does not take a session: the next search begins after a pause."""
        known = self._refusals.get(session.session_id, 0)
        self._refusals[session.session_id] = known + 1

    def give_up(self, session: GatewaySession) -> None:
        """Seeks a session no more."""
        self._refusals.pop(session.session_id, None)
        task = self._searches.pop(session.session_id, None)
        if task is not None:
            task.cancel()

    def _begin(self, session: GatewaySession, search: Coroutine[Any, Any, None]) -> None:
        present = self._searches.get(session.session_id)
        if present is not None and not present.done():
            search.close()
            return
        task = self._searches[session.session_id] = asyncio.create_task(search)
        task.add_done_callback(lambda _: self._over(session, task))

    def _over(self, session: GatewaySession, task: asyncio.Task[None]) -> None:
        if self._searches.get(session.session_id) is task:
            del self._searches[session.session_id]
        answer = self._answers.pop(session.session_id, None)
        if answer is not None and not answer.done():
            answer.set_exception(SessionClosedError("the session was closed"))
        _report(task)

    def _moved(self, task: asyncio.Task[None]) -> None:
        self._moves.discard(task)
        _report(task)

    # -- searches -----------------------------------------------------------------------------

    async def _place(self, session: GatewaySession, reason: str) -> None:
        asked_at, tries = time.monotonic(), 0
        refusals = self._refusals.get(session.session_id, 0)
        if refusals:
            await asyncio.sleep(pause_s(refusals))
        while not _is_over(session):
            # Nothing at first: who says that it waited is taken for one that a scheduler before
            # this one knew, and waits for models that are not served.
            waited_s = time.monotonic() - asked_at if tries else 0.0
            try:
                await self._ask(session, waited_s)
                if session.has_actor:
                    return
            except RequestError as error:
                if self._is_final(session, error, reason):
                    return
            except AskedElsewhereError:
                if await self._find_elsewhere(session):
                    return
            except SchedulerAwayError:
                # It restarts empty: the ticket is submitted again with its time.
                text = "the service is starting; try again"
                late = waited_s > AWAY_S
                if late and self._answer(session, NoCapacityError(text, retry_after_s=5.0)):
                    return
            except LinkDeadError:
                log.debug("actor.dead", session_id=session.session_id)
            await asyncio.sleep(pause_s(tries))
            tries += 1

    async def _ask(self, session: GatewaySession, waited_s: float) -> None:
        """Asks for a place, waits for it, and joins the session there."""
        responses = self._placement.place(
            session.session_id,
            session.model,
            session.principal,
            waited_s,
            restore=session.existed or session.lease is not None,
            near_host=session.near_host,
            fork=session.is_fork,
        )
        async for response in responses:
            if response.WhichOneof("response") == "queued":
                queued = response.queued
                session.queued(queued.position, queued.estimated_wait_us / 1e6)
                self._answer(session)
            else:
                _check_owner(session, response.lease)
                self._answer(session)
                await self._join(session, response.lease)
                return

    def _answer(self, session: GatewaySession, error: RequestError | None = None) -> bool:
        """Tells whoever creates a session whether it is taken.

        Returns:
            Whether somebody had not been told yet.
        """
        answer = self._answers.get(session.session_id)
        if answer is None or answer.done():
            return False
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        return True

    def _is_final(self, session: GatewaySession, error: RequestError, reason: str) -> bool:
        """Takes in that the scheduler has refused a place; returns whether that is the end."""
        if self._answer(session, error):
            return True
        over = isinstance(error, (UnknownSessionError, SessionClosedError))
        if over or not session.existed:
            self._ended(session, reason or str(error))
            return True
        log.warning("session.unplaced", session_id=session.session_id, reason=error.reason)
        return False

    async def _find_elsewhere(self, session: GatewaySession) -> bool:
        """Joins a session where another gateway, which has asked for its place since, gets it.

        Returns:
            Whether that is settled. Else the other one may have left without the place.
        """
        until, tries = time.monotonic() + OTHERS_S, 0
        while not _is_over(session) and time.monotonic() < until:
            try:
                await self._join(session, await self._placement.find(session.session_id))
                if session.has_actor:
                    return True
            except (UnknownSessionError, SessionClosedError):
                self._ended(session, WORKER_DIED)
                return True
            except (NotReadyError, SchedulerAwayError, LinkDeadError):
                log.debug("session.sought", session_id=session.session_id)
            await asyncio.sleep(pause_s(tries))
            tries += 1
        return False

    async def _follow(self, session: GatewaySession) -> None:
        left, tries, until = session.epoch, 0, time.monotonic() + OTHERS_S
        while not _is_over(session):
            try:
                lease = await self._placement.find(session.session_id)
                if lease.epoch > left:
                    await self._join(session, lease)
                    if session.has_actor:
                        return
            except (UnknownSessionError, SessionClosedError):
                self._ended(session, WORKER_DIED)
                return
            except (NotReadyError, SchedulerAwayError, LinkDeadError):
                log.debug("session.sought", session_id=session.session_id)
            if session.epoch == 0 or time.monotonic() >= until:
                # The actor that handed it over is gone as well, or the move was undone after it
                # had: nobody goes on with it, and whoever asks is given a place.
                await self._place(session, WORKER_DIED)
                return
            await asyncio.sleep(pause_s(tries))
            tries += 1

    async def _move(self, session: GatewaySession, lease: placement_pb2.Lease) -> None:
        for tries in range(MOVE_TRIES):
            try:
                session.move(lease, await self._links.get(lease.address))
            except LinkDeadError:
                await asyncio.sleep(pause_s(tries))
            else:
                return
        log.warning("move.impossible", session_id=session.session_id, actor_id=lease.actor_id)
        if session.has_actor or session.is_parked:
            return
        if session.epoch:
            self.follow(session)
        else:
            self.seek(session)

    async def _join(self, session: GatewaySession, lease: placement_pb2.Lease) -> None:
        _check_owner(session, lease)
        again = session.lease is not None and session.lease.epoch == lease.epoch
        try:
            async with asyncio.timeout(DIAL_AGAIN_S if again else None):
                link = await self._links.get(lease.address)
        except TimeoutError:
            raise LinkDeadError("the actor does not answer") from None
        session.join(lease, link)


def _check_owner(session: GatewaySession, lease: placement_pb2.Lease) -> None:
    if lease.principal.tenant != session.principal.tenant:
        raise UnknownSessionError("there is no such session")


def _is_over(session: GatewaySession) -> bool:
    return session.status == session_pb2.SESSION_STATUS_CLOSED


def _seen(answer: asyncio.Future[None]) -> None:
    """Whoever waits for an answer, if anybody still does, has it."""
    if not answer.cancelled():
        answer.exception()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task.failed", error=type(error).__name__)
