"""Keeping the state of one session, so that it outlives its actor.

The model's part can only be taken between two windows: `busy` holds the next one back while
it is. It is taken every few windows (a small one after each), when the session pauses, and
when the last gateway has left; a thread writes it meanwhile, and while it does nothing more is
taken. Once it is written the machine is told, which knows up to when the states before it are
still needed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from model_actor.engine.services import ModelStates
from model_actor.snapshots.kept import KeptState
from model_actor.snapshots.states import KeptStates
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.core.errors import SanaGatewayError
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session

log = structlog.get_logger(__name__)

SETTLE_S = 5.0
"""Longest wait for a window under way."""


SMALL_BYTES = 1 << 20
"""States up to this size are kept after every window: less work than a window to be made again."""


class NotKeptError(SanaGatewayError):
    """What a session is to go on from could not be kept where it will be looked for."""


class UnsettledError(SanaGatewayError):
    """The window under way does not end. Only inside the engine."""


class Keeper:
    """Keeps one session."""

    def __init__(
        self,
        session_id: str,
        epoch: int,
        machine: Session,
        states: ModelStates,
        kept: KeptStates,
        *,
        every: int,
        state: Callable[[], object],
        control: Callable[[], snapshot_pb2.ControlSnapshot],
        picture: Callable[[], Awaitable[bytes]],
        told: Callable[[int, int], None],
    ) -> None:
        """Prepares; nothing is kept yet.

        Args:
            session_id: Whose.
            epoch: Of its lease.
            machine: The session.
            states: What the model keeps of it.
            kept: Where states lie.
            every: Windows from one kept state to the next, where it is not small; 0 keeps none
                by their number.
            state: What the model keeps of it now.
            control: Its control snapshot.
            picture: Makes what is kept of the picture that holds; empty where none does.
            told: Called with run and windows when the model's state was kept.
        """
        self.host = ""
        """Host on which the model's state was last kept; empty when it never was."""
        self.size = 0
        """Bytes of the model's state when it was last kept."""
        self._session_id = session_id
        self._epoch = epoch
        self._machine = machine
        self._states = states
        self._kept = kept
        self._every = every
        self._state = state
        self._control = control
        self._picture = picture
        self._told = told
        self._holds = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._point: tuple[int, int] | None = None
        """(run, windows) that the model's state is after; None: of no run."""
        self._kept_point: tuple[int, int] | None = None
        self._pruned: tuple[int, int] | None = None
        self._keeping: asyncio.Task[bool] | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether no window may begin now."""
        return self._holds > 0

    def restored(self, run: int, windows: int) -> None:
        """The model's state is after these windows of a run, and was kept already."""
        self._point = self._kept_point = (run, windows)
        self.host = self._kept.host_name

    def began(self) -> None:
        """A window is under way."""
        self._settled.clear()

    def settled(self, plan: WindowPlan) -> None:
        """All stages of a window are over: the model's state is the one after it."""
        self._point = (plan.run, plan.index + 1)
        self._settled.set()
        if self._every and (self._is_small or self._point[1] % self._every == 0):
            self.keep()

    def failed(self) -> None:
        """The window under way failed, and with it its run."""
        self._point = None
        self._settled.set()

    def keep(self, *, again: bool = False) -> None:
        """Keeps the session as it is, unless it is being kept.

        Args:
            again: Also where the model's state has been kept before; other things may have
                changed since.
        """
        unchanged = not again and self._point is not None and self._point == self._kept_point
        if unchanged or self._closed or self._keeping is not None or not self._settled.is_set():
            return
        self._holds += 1
        self._keeping = asyncio.create_task(self._keep())
        self._keeping.add_done_callback(self._ended)

    @contextlib.asynccontextmanager
    async def between_windows(self) -> AsyncIterator[None]:
        """Lets the window under way settle, and holds the next one back meanwhile.

        Raises:
            UnsettledError: It does not end.
        """
        self._holds += 1
        try:
            try:
                async with asyncio.timeout(SETTLE_S):
                    await self._settled.wait()
            except TimeoutError:
                raise UnsettledError from None
            yield
        finally:
            self._release()

    async def take(self, *, shown: bool = False) -> KeptState:
        """Takes the session as it is, between two windows.

        Args:
            shown: Whether with the picture that holds, for whoever sees the session next.
        """
        point = self._point if self._of_this_run() else None
        model = await self._states.snapshot(self._state()) if point is not None else None
        run, windows = point or (self._machine.run, 0)
        picture = await self._picture() if shown else b""
        return KeptState(self._control().SerializeToString(), model, run, windows, picture)

    async def write(self, state: KeptState) -> bool:
        """Writes what was taken to the host; False when it could not be."""
        if not await self._kept.keep(self._session_id, self._epoch, state):
            return False
        if state.model is not None:
            self._kept_point = (state.run, state.windows)
            self.size, self.host = state.model_size, self._kept.host_name
            if state.run == self._machine.run and not self._closed:
                self._told(state.run, state.windows)
        return True

    def prune(self, run: int, windows: int) -> None:
        """States before a point of a run are needed no longer."""
        if (run, windows) == self._pruned or self._pruning is not None or self._closed:
            return
        self._pruned = (run, windows)
        self._pruning = asyncio.create_task(
            self._kept.prune(self._session_id, self._epoch, run, windows)
        )
        self._pruning.add_done_callback(self._forget_pruning)

    async def close(self) -> None:
        """Ends what is under way."""
        self._closed = True
        tasks = [task for task in (self._keeping, self._pruning) if task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _of_this_run(self) -> bool:
        return self._point is not None and self._point[0] == self._machine.run

    @property
    def _is_small(self) -> bool:
        return self.size <= SMALL_BYTES

    async def _keep(self) -> bool:
        try:
            state = await self.take()
        finally:
            self._release()
        return await self.write(state)

    def _release(self) -> None:
        self._holds -= 1
        if not self.busy:
            self._states.wake()

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._keeping = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # A model may raise anything, and quote the prompt.
            log.warning("session.not_kept", session_id=self._session_id, error=type(error).__name__)
        elif task.result() and self._every and self._is_small:
            self.keep()  # what came meanwhile

    def _forget_pruning(self, _: asyncio.Task[None]) -> None:
        self._pruning = None
