"""What one session uses: its chunks, counted where they are shown to their end.

The meter is part of the control snapshot, so it goes where the session goes. It listens to what
the session machine tells: a `ChunkComplete` is told once a chunk, whatever died meanwhile, and
is followed by a snapshot in the same turn. What a chunk has cost waits here until then; a chunk
that is lost and made again has the cost of whoever made it last.

What the model took is counted a second time, whatever becomes of it (`spent_us`): that is what
the session costs the operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from model_actor.engine.tracing import WindowTiming
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.core.effects import Send
from scheduler.core.geometry import OutwardChunk
from scheduler.core.messages import ChunkComplete
from scheduler.core.metering import Shown, Tally
from scheduler.core.run import WindowPlan
from scheduler.metering.wire import tally_in, tally_out

_REMEMBERED = 8
"""Chunks that were shown of which it is known what was counted for them: a stage off the latency
path may end after that."""

_Key = tuple[int, int]
"""(run, chunk)."""


class Meter:
    """Counts one session."""

    def __init__(
        self,
        origin: int,
        frame_rate: float,
        before: snapshot_pb2.MeterSnapshot | None = None,
    ) -> None:
        """Goes on where the session has been metered before, or begins.

        Args:
            origin: Epoch of the lease under which it begins, where it does.
            frame_rate: The model's own frames per second.
            before: What another actor has counted.
        """
        self.spent_us = 0
        """Microseconds that the model took for the session here."""
        self._frame_rate = frame_rate
        self._tally = Tally(origin) if before is None else tally_in(before.tally)
        costs = () if before is None else before.costs
        self._costs: dict[_Key, int] = {(each.run, each.chunk): each.compute_us for each in costs}
        self._counted: dict[_Key, int] = {}
        self._void_below = 0
        self._timing: WindowTiming | None = None
        self._taken: tuple[Tally, int] | None = None

    @property
    def changed(self) -> bool:
        """Whether more was used than `take` has told."""
        return self._taken != (self._tally, self.spent_us)

    def take(self) -> snapshot_pb2.UsageTally:
        """Returns what was shown so far."""
        self._taken = (self._tally, self.spent_us)
        return tally_out(self._tally)

    def snapshot(self) -> snapshot_pb2.MeterSnapshot:
        """Returns all that the next actor needs to count on."""
        return snapshot_pb2.MeterSnapshot(
            tally=tally_out(self._tally),
            costs=[
                snapshot_pb2.ChunkCost(run=run, chunk=chunk, compute_us=cost)
                for (run, chunk), cost in self._costs.items()
            ],
        )

    # -- windows ------------------------------------------------------------------------------

    def began(self, timing: WindowTiming) -> None:
        """The model is at a window."""
        self._timing = timing

    def made(self, plan: WindowPlan) -> None:
        """A window's frames are finished, or all of its stages are: its chunks have cost what it
        took so far. What was shown before and was made again for the model's sake has cost
        nothing.
        """
        if self._timing is None or plan.run < self._void_below:
            return
        first = plan.answers_from + plan.skip
        left = [chunk for chunk in plan.chunks if chunk.first_frame + chunk.frames > first]
        for chunk, cost in zip(left, _shares(left, _us(self._timing.compute_s)), strict=True):
            self._cost((plan.run, chunk.index), cost)

    def settled(self) -> None:
        """The model has done with the window, or will not go on with it."""
        if self._timing is not None:
            self.spent_us += _us(self._timing.spent_s)
            self._timing = None

    # -- what the machine says ----------------------------------------------------------------

    def told(self, run: int, effect: Send) -> None:
        """Something is told to clients.

        Args:
            run: The run that the session is at.
            effect: What.
        """
        told = effect.message.payload
        if isinstance(told, ChunkComplete):
            self._shown((run, told.chunk_index), told.frames_emitted)

    def abandon(self, next_run: int) -> None:
        """Runs below one are over: what is not shown of them never will be."""
        self._void_below = next_run
        self._costs = {key: cost for key, cost in self._costs.items() if key[0] >= next_run}

    def _shown(self, key: _Key, frames: int) -> None:
        run, chunk = key
        cost = self._costs.pop(key, 0)
        # Those before it were shown, or never will be.
        self._costs = {each: left for each, left in self._costs.items() if each > (run, chunk)}
        self._counted[key] = cost
        if len(self._counted) > _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        streamed_us = round(frames / self._frame_rate * 1e6)
        self._tally = self._tally.counted(run, Shown(1, frames, streamed_us, cost))

    def _cost(self, key: _Key, cost: int) -> None:
        counted = self._counted.get(key)
        if counted is None:
            self._costs[key] = cost
        elif cost > counted:
            self._counted[key] = cost
            self._tally = self._tally.counted(key[0], Shown(compute_us=cost - counted))


def _shares(chunks: Sequence[OutwardChunk], cost: int) -> Iterable[int]:
    """Divides the cost of a window among its chunks by their frames; nothing is lost."""
    total = sum(chunk.frames for chunk in chunks)
    ends = [0]
    for chunk in chunks:
        ends.append(ends[-1] + chunk.frames)
    bounds = [cost * end // max(1, total) for end in ends]
    return (end - begin for begin, end in pairwise(bounds))


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
