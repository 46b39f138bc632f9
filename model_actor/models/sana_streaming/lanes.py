"""Stages of different sessions at the same time, each kind on a stream of its own.

Three lanes: encoding, the transformer, decoding. Windows of a batch go through them one after
the other, so that one session's pictures are decoded while the next one's latents are edited
and a third is encoded. A lane does its work in order; from lane to lane a window waits for its
own earlier stage alone. The pass that commits is not waited for.

Memory made on one lane and read on another is told to the allocator, which would otherwise give
it away as soon as the lane that made it is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from torch import Tensor

from model_actor.models.sana_streaming.session import SanaSession
from model_actor.models.sana_streaming.staging import Streams
from model_actor.plugin import WindowTask
from scheduler.core.errors import InvariantError

LANES: Final = {
    "encode": "encoder",
    "generate": "transformer",
    "decode": "decoder",
    "commit": "transformer",
}
"""Which lane a stage takes."""
_MadeT = TypeVar("_MadeT")
Stages = Mapping[str, Callable[[Sequence[WindowTask]], None]]


class Lanes(Protocol):
    """Where work goes."""

    def run(
        self,
        lane: str,
        work: Callable[[], _MadeT],
        *,
        after: Iterable[Any] = (),
        uses: Iterable[Tensor] = (),
    ) -> tuple[_MadeT, Any]:
        """Has some work done on a lane.

        Args:
            lane: Which.
            work: Asks the device for it.
            after: Marks on other lanes that it has to wait for.
            uses: Memory of other lanes that it reads.

        Returns:
            What it made, which may not be there yet, and a mark after it.
        """

    def join(self) -> None:
        """What this thread asks the device for next waits for all lanes."""


class Streamed:
    """Lanes that are streams of a GPU."""

    def __init__(self, streams: Streams) -> None:
        """Makes them as they are needed.

        Args:
            streams: Of the GPU.
        """
        self._streams = streams
        self._lanes: dict[str, Any] = {}

    def run(
        self,
        lane: str,
        work: Callable[[], _MadeT],
        *,
        after: Iterable[Any] = (),
        uses: Iterable[Tensor] = (),
    ) -> tuple[_MadeT, Any]:
        """Has some work done on a lane, after what the thread has asked for outside of lanes."""
        stream = self._lanes.get(lane)
        if stream is None:
            stream = self._lanes[lane] = self._streams.stream()
        for mark in (self._mark(self._streams.current()), *after):
            stream.wait_event(mark)
        try:
            with self._streams.using(stream):
                made = work()
        finally:
            # Also where it failed half-way: something may be under way.
            for tensor in uses:
                self._streams.keep(tensor, stream)
        return made, self._mark(stream)

    def join(self) -> None:
        """What this thread asks the device for next waits for all lanes."""
        current = self._streams.current()
        for stream in self._lanes.values():
            current.wait_event(self._mark(stream))

    def _mark(self, stream: Any) -> Any:  # noqa: ANN401
        event = self._streams.event()
        event.record(stream)
        return event


class Overlapped:
    """Runs stages of windows on lanes, window by window."""

    def __init__(self, lanes: Lanes, stages: Stages) -> None:
        """Takes the stages.

        Args:
            lanes: Where they go.
            stages: What they do, for windows in one call.
        """
        self._lanes = lanes
        self._stages = stages
        self._marks: dict[int, Any] = {}
        """After the last stage of a session's window, by the session's identity."""

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs a stage on windows of different sessions."""
        for task in batch:
            self._one(name, task)

    def forget(self, session: object) -> None:
        """A session is gone."""
        self._marks.pop(id(session), None)

    def _one(self, name: str, task: WindowTask) -> None:
        session = task.session
        if not isinstance(session, SanaSession):
            raise InvariantError("not a session of sana-streaming")
        before = self._marks.get(id(session))
        # What a stage lets go of is being read still, and what it has made lies on its lane.
        uses = [*_held(session)]
        _, self._marks[id(session)] = self._lanes.run(
            LANES[name],
            lambda: self._stages[name]([task]),
            after=() if before is None else (before,),
            uses=uses,
        )


def _held(session: SanaSession) -> Iterable[Tensor]:
    """Yields what a stage of a session may read: it may lie on any lane, or on none where the
    session was restored.
    """
    yield from session.tensors().values()
    window = session.underway
    if window is not None:
        for tensor in (window.source, window.latents, window.text, window.text_mask):
            if tensor is not None:
                yield tensor
