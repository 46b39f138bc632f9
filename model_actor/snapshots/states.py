"""The kept states of an actor's sessions: on its host first, in the storage where asked for.

What a host's memory keeps of sessions that are on no actor goes to the storage after a while.
The actors of the host see to it by the age of the files alone: it needs no word of anybody, so
none can be missing when the scheduler has begun anew. Each actor touches the files of its own
sessions; what nobody touches is of a session that is parked, or lost, or gone. Who takes a
file for one of these by mistake harms nobody, for it is found in the storage.

Files are written and read by one thread of its own, the saver; a session has one write under
way, and what falls due meanwhile is left out. Whatever goes wrong here costs a session its way
back, never its life: results tell, and nothing is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog

from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.kept import Age, KeptState, Point, age_of
from model_actor.snapshots.storage_tier import StorageTier
from scheduler.kept_names import key_of

log = structlog.get_logger(__name__)
_ResultT = TypeVar("_ResultT")

SWEEP_S = 300.0
"""Longest pause between two sweeps of the host's folder."""
SHORTEST_SWEEP_S = 0.25
STORAGE_SWEEP_S = 3600.0
"""Pause between two sweeps of the storage."""
EXPIRE_S = 600.0
"""What a session that went elsewhere leaves behind is kept so long, in case it comes back."""
COPY_EPOCH = 0
"""What a copy begins from is kept under no lease."""

Choose = Callable[[Sequence[KeptState]], int | None]
"""Returns the index of the state to go on from; None when none is of use."""


@dataclass(frozen=True, slots=True)
class Found:
    """A state to go on from."""

    point: Point | None
    """Where it lies on the host; None: in the storage."""
    state: KeptState


class KeptStates:
    """What is kept of sessions, by session and epoch."""

    def __init__(
        self,
        host: HostTier | None,
        storage: StorageTier,
        host_name: str,
        *,
        store_after_s: float | None = None,
    ) -> None:
        """Begins with what is there.

        Args:
            host: The files of the host; None keeps nothing there.
            storage: The storage.
            host_name: Of the host; actors of the same name share `host`.
            store_after_s: How long what nobody has touched stays on the host before it goes to
                the storage; None: until it is swept.
        """
        self.host_name = host_name if host is not None else ""
        """Host on which states are kept; empty when they are not."""
        self._host = host
        self._storage = storage
        self._store_after_s = store_after_s
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._own: set[str] = set()

    def hold(self, session_id: str) -> None:
        """A session is on this actor: what is kept of it makes room for nobody."""
        self._own.add(key_of(session_id))

    async def sweep(self) -> None:
        """Removes for ever what nobody needs, and stores what nobody has needed for a while."""
        clock = asyncio.get_running_loop().time
        pause = min(SWEEP_S, max(SHORTEST_SWEEP_S, (self._store_after_s or SWEEP_S) / 2))
        storage_at = clock()
        while True:
            again_at = clock() + pause
            await self._on_host(lambda host: host.sweep(set(self._own)), otherwise=None)
            try:
                # Our own are to be touched in time, so no longer than that.
                await self.store_forsaken(again_at)
                if clock() >= storage_at:
                    storage_at = clock() + STORAGE_SWEEP_S
                    await self._storage.sweep()
            except Exception as error:  # a storage is a plugin
                log.warning("snapshot.sweep_failed", error=type(error).__name__)
            await asyncio.sleep(max(SHORTEST_SWEEP_S, again_at - clock()))

    async def store_forsaken(self, until: float = math.inf) -> None:
        """Moves what nobody has touched for a while to the storage, as far as it is done by a
        time of the event loop.
        """
        after_s = self._store_after_s
        if after_s is None:
            return
        nothing: dict[str, list[Point]] = {}
        forsaken = await self._on_host(
            lambda host: host.forsaken(set(self._own), after_s), otherwise=nothing
        )
        for key, points in forsaken.items():
            if asyncio.get_running_loop().time() >= until:
                return
            if key not in self._own:
                await self._put_away(key, points)

    async def keep(self, session_id: str, epoch: int, state: KeptState) -> bool:
        """Keeps a state on the host; False when it could not be."""
        key = key_of(session_id)
        own = {*self._own, key}
        point = Point(key, epoch, state.run, state.windows)
        return await self._on_host(lambda host: host.write(point, state, own=own), otherwise=False)

    async def store(self, session_id: str, epoch: int, state: KeptState) -> bool:
        """Keeps a state in the storage; False when it could not be."""
        return await self._storage.write(key_of(session_id), epoch, state)

    async def prune(self, session_id: str, epoch: int, run: int, windows: int) -> None:
        """Removes what was kept under earlier leases, and under this one before a point."""
        key = key_of(session_id)

        def prune(host: HostTier) -> None:
            host.drop(
                [
                    point
                    for point in host.points(key)
                    if (point.epoch, point.run, point.windows) < (epoch, run, windows)
                ],
                reuse=True,
            )

        await self._on_host(prune, otherwise=None)

    async def find(self, session_id: str, epoch: int, choose: Choose) -> Found | None:
        """Returns what a session can go on from: of the host, else of the storage.

        Args:
            session_id: Whose.
            epoch: Of its newest control snapshot: what older leases left is another story.
            choose: Chooses among states without their models' parts.
        """
        key = key_of(session_id)

        def find(host: HostTier) -> Found | None:
            points = [point for point in host.points(key) if point.epoch >= epoch]
            kept = [(point, host.read(point, model=False)) for point in points]
            there = [(point, state) for point, state in kept if state is not None]
            while (index := choose([state for _, state in there])) is not None:
                point, _ = there.pop(index)
                state = host.read(point)
                if state is not None and state.model is not None:
                    return Found(point, state)
            return None

        found = await self._on_host(find, otherwise=None)
        if found is not None:
            return found
        stored = await self._storage.read(key)
        if stored is None or stored[0].epoch < epoch or choose([stored[1]]) is None:
            return None
        return Found(None, stored[1]) if stored[1].model is not None else None

    async def adopt(self, session_id: str, epoch: int, found: Found | None) -> None:
        """A session goes on under a lease from what was found; all else is of no use."""
        key = key_of(session_id)
        self._own.add(key)

        def adopt(host: HostTier) -> None:
            mine = None
            if found is not None and found.point is not None:
                mine = found.point._replace(epoch=epoch)
                host.link(found.point, key, epoch)
            host.drop([p for p in host.points(key) if p.epoch <= epoch and p != mine])

        await self._on_host(adopt, otherwise=None)
        if found is not None and found.point is None:
            await self.keep(session_id, epoch, found.state)

    async def newest(
        self, session_id: str, below: int, *, than: Age | None = None
    ) -> KeptState | None:
        """Returns what was kept last of a session under a lease before epoch `below`, without
        the model's part.

        Args:
            session_id: Whose.
            below: The epoch.
            than: Only what is newer than this.
        """
        key, least = key_of(session_id), than or Age(-1)

        def newest(host: HostTier) -> KeptState | None:
            points = [point for point in host.points(key) if point.epoch <= below]
            states = (host.read(point, model=False) for point in points)
            there = [state for state in states if state is not None and age_of(state) > least]
            # Of equals the last: its point is the later one.
            return max(reversed(there), key=age_of, default=None)

        kept = await self._on_host(newest, otherwise=None)
        age = await self._storage.age(key)
        if age is None or age <= (least if kept is None else age_of(kept)):
            return kept
        stored = await self._storage.read(key)
        return kept if stored is None else stored[1]

    async def claim(self, session_id: str, epoch: int) -> None:
        """Takes over, for a lease, what earlier ones have kept on this host, so that it
        outlives their sessions' end. Only the newest of them counts.
        """
        key = key_of(session_id)
        self._own.add(key)

        def claim(host: HostTier) -> None:
            earlier = [point for point in host.points(key) if point.epoch < epoch]
            newest = max((point.epoch for point in earlier), default=0)
            for point in earlier:
                if point.epoch == newest:
                    host.link(point, key, epoch)

        await self._on_host(claim, otherwise=None)

    async def copy(self, session_id: str, epoch: int, copies: Sequence[str]) -> bool:
        """Gives what is kept of a session to others too."""
        key = key_of(session_id)

        def copy(host: HostTier) -> bool:
            points = [point for point in host.points(key) if point.epoch == epoch]
            made = [
                host.link(point, key_of(each), COPY_EPOCH) for point in points for each in copies
            ]
            return all(made)

        return await self._on_host(copy, otherwise=False)

    async def put_away(self, session_id: str, epoch: int) -> bool:
        """Moves what is kept on this host, of a session that is on no actor, to the storage."""
        key = key_of(session_id)
        points = await self._points(key, epoch)
        if points:
            return await self._put_away(key, points)
        return await self._storage.renew(key, epoch)

    async def renew(self, session_id: str, epoch: int) -> str | None:
        """What is kept of a session that is on no actor is needed still.

        Returns:
            The host that keeps it in its memory; empty: it lies in the storage; None: nothing
            is kept of it.
        """
        key = key_of(session_id)
        points = await self._points(key, epoch)
        touched = await self._on_host(lambda host: host.touch(points), otherwise=False)
        if points and touched:
            return self.host_name
        return "" if await self._storage.renew(key, epoch) else None

    async def drop(self, session_id: str, epoch: int) -> None:
        """A session has ended: removes what is kept of it, up to an epoch."""
        key = key_of(session_id)
        self._own.discard(key)
        await self._drop_on_host(key, epoch)
        await self._storage.drop(key, epoch)

    def leave(self, session_id: str) -> None:
        """A session is on this actor no longer; what is kept of it stays."""
        self._own.discard(key_of(session_id))

    async def expire(self, session_id: str, epoch: int) -> None:
        """A session went elsewhere: what is kept of it here is soon of no use."""
        key = key_of(session_id)

        def expire(host: HostTier) -> None:
            host.expire([point for point in host.points(key) if point.epoch <= epoch], EXPIRE_S)

        await self._on_host(expire, otherwise=None)

    async def drop_on_host(self, session_id: str, epoch: int) -> None:
        """Removes what is kept of a session on the host alone: it lies in the storage."""
        await self._drop_on_host(key_of(session_id), epoch)

    async def close(self) -> None:
        """Ends the saver; what is kept stays."""
        await asyncio.to_thread(self._saver.shutdown)
        if self._host is not None:
            self._host.close()

    async def _points(self, key: str, epoch: int) -> list[Point]:
        nothing: list[Point] = []
        return await self._on_host(
            lambda host: [point for point in host.points(key) if point.epoch <= epoch],
            otherwise=nothing,
        )

    async def _put_away(self, key: str, points: Sequence[Point]) -> bool:
        """Stores the newest of some states of a session, and removes them all from the host."""

        def newest(host: HostTier) -> tuple[Point, KeptState] | None:
            # The neighbours need not do it too.
            host.touch(points)
            states = ((point, host.read(point)) for point in reversed(points))
            return next(((point, state) for point, state in states if state is not None), None)

        kept = await self._on_host(newest, otherwise=None)
        if kept is None or not await self._storage.write(key, kept[0].epoch, kept[1]):
            return False
        await self._on_host(lambda host: host.drop(points), otherwise=None)
        log.info("snapshot.stored", bytes=kept[1].size)
        return True

    async def _drop_on_host(self, key: str, epoch: int) -> None:
        def drop(host: HostTier) -> None:
            host.drop([point for point in host.points(key) if point.epoch <= epoch])

        await self._on_host(drop, otherwise=None)

    async def _on_host(
        self, work: Callable[[HostTier], _ResultT], *, otherwise: _ResultT
    ) -> _ResultT:
        """Does something with the host's files, on the saver; `otherwise` when it cannot."""
        host = self._host
        if host is None:
            return otherwise
        with contextlib.suppress(RuntimeError):  # closed: the actor ends
            try:
                return await asyncio.get_running_loop().run_in_executor(self._saver, work, host)
            except OSError as error:
                log.warning("snapshot.failed", error=type(error).__name__)
        return otherwise
