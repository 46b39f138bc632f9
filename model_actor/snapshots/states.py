"""The kept states of an actor's sessions: on its host first, in the storage where asked for.

Files are written and read by one thread of its own, the saver; a session has one write under
way, and what falls due meanwhile is left out. Whatever goes wrong here costs a session its way
back, never its life: results tell, and nothing is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog

from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.kept import KeptState, Point, key_of
from model_actor.snapshots.storage_tier import StorageTier

log = structlog.get_logger(__name__)
_ResultT = TypeVar("_ResultT")

SWEEP_S = 300.0
"""Pause between two sweeps of the host's folder."""
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

    def __init__(self, host: HostTier | None, storage: StorageTier, host_name: str) -> None:
        """Begins with what is there.

        Args:
            host: The files of the host; None keeps nothing there.
            storage: The storage.
            host_name: Of the host; actors of the same name share `host`.
        """
        self.host_name = host_name if host is not None else ""
        """Host on which states are kept; empty when they are not."""
        self._host = host
        self._storage = storage
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._own: set[str] = set()

    def hold(self, session_id: str) -> None:
        """A session is on this actor: what is kept of it makes room for nobody."""
        self._own.add(key_of(session_id))

    async def sweep(self) -> None:
        """Removes for ever what nobody needs."""
        while True:
            await self._on_host(lambda host: host.sweep(set(self._own)), otherwise=None)
            await asyncio.sleep(SWEEP_S)

    async def keep(self, session_id: str, epoch: int, state: KeptState) -> bool:
        """Keeps a state on the host; False when it could not be."""
        key = key_of(session_id)
        own = {*self._own, key}
        point = Point(key, epoch, state.run, state.windows)
        return await self._on_host(lambda host: host.write(point, state, own=own), otherwise=False)

    async def store(self, session_id: str, epoch: int, state: KeptState) -> bool:
        """Keeps a state in the storage; False when it could not be."""
        return await self._storage.write(session_id, epoch, state)

    async def prune(self, session_id: str, epoch: int, run: int, windows: int) -> None:
        """Removes what was kept under earlier leases, and under this one before a point."""
        key = key_of(session_id)

        def prune(host: HostTier) -> None:
            host.drop(
                [
                    point
                    for point in host.points(key)
                    if (point.epoch, point.run, point.windows) < (epoch, run, windows)
                ]
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
        stored = await self._storage.read(session_id)
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

    async def newest(self, session_id: str, below: int) -> KeptState | None:
        """Returns what was kept last of a session under a lease before epoch `below`."""
        key = key_of(session_id)

        def newest(host: HostTier) -> tuple[Point, KeptState] | None:
            for point in reversed(host.points(key)):
                state = host.read(point)
                if point.epoch <= below and state is not None:
                    return point, state
            return None

        kept = await self._on_host(newest, otherwise=None)
        stored = await self._storage.read(session_id)
        if stored is not None and (kept is None or kept[0] < stored[0]):
            kept = stored
        return kept[1] if kept is not None else None

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

        def newest(host: HostTier) -> KeptState | None:
            points = [point for point in host.points(key) if point.epoch <= epoch]
            states = (host.read(point) for point in reversed(points))
            return next((state for state in states if state is not None), None)

        state = await self._on_host(newest, otherwise=None)
        if state is None or not await self.store(session_id, epoch, state):
            return False
        await self.drop_on_host(session_id, epoch)
        return True

    async def has(self, session_id: str, epoch: int) -> bool:
        """Tells whether something is kept on this host, of a lease or the ones before."""
        key = key_of(session_id)
        return await self._on_host(
            lambda host: any(point.epoch <= epoch for point in host.points(key)), otherwise=False
        )

    async def drop(self, session_id: str, epoch: int) -> None:
        """A session has ended: removes what is kept of it, up to an epoch."""
        key = key_of(session_id)
        self._own.discard(key)
        await self._drop_on_host(key, epoch)
        await self._storage.drop(session_id, epoch)

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
