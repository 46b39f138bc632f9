"""What was made again, compared with what was shown, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from model_actor.media.errors import ClipFailedError
from model_actor.plugin import Frames
from model_actor.replay import records
from model_actor.replay.pictures import psnr, reduced, reference_picture
from model_actor.replay.reading import Journal, Run
from model_actor.replay.records import Window
from model_actor.replay.rendering import Rendering, ReplayError

SAME_DB = 45.0
"""From here on two pictures count as the same, where their bits are not."""
CAMERA = (
    "its source was a camera, whose frames no journal keeps: nothing of it can be made again; "
    "its commands, seeds and digests are in the journal"
)


class Verdict(Enum):
    """What came of it."""

    BIT_EQUAL = "bit-equal"
    """Every frame that was compared has the same bits."""
    ALIKE = "psnr"
    """The bits differ, and every reference picture is at least `SAME_DB` alike."""
    DIFFERS = "differs"
    NOTHING = "nothing compared"


@dataclass(slots=True)
class Place:
    """Where something is."""

    run: int
    chunk: int
    frame: int

    def __str__(self) -> str:
        return f"run {self.run}, chunk {self.chunk}, frame {self.frame}"


@dataclass(slots=True)
class RunResult:
    """What came of one run."""

    number: int
    seed: int
    windows: int = 0
    """Windows that were made again."""
    compared: int = 0
    """Frames that were compared."""
    equal: int = 0
    """Frames of the same bits."""
    unknown: int = 0
    """Frames of which the journal has no digest."""
    first_difference: Place | None = None
    source_difference: Place | None = None
    """Where the source frames differ: another clip, or one that is decoded differently."""
    pictures: int = 0
    """Reference pictures that were compared."""
    worst_db: float = math.inf
    """How much alike the worst of them is."""
    reduced: bool = False
    """Whether they are smaller than what was shown."""
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What came of it."""
        if not self.compared:
            return Verdict.NOTHING
        if self.equal == self.compared:
            return Verdict.BIT_EQUAL
        return Verdict.ALIKE if self.pictures and self.worst_db >= SAME_DB else Verdict.DIFFERS


Progress = Callable[[RunResult], None]


async def compare(
    journal: Journal,
    run: Run,
    rendering: Rendering | None,
    progress: Progress = lambda _: None,
) -> RunResult:
    """Makes a run again and compares it.

    Args:
        journal: What it is of.
        run: It.
        rendering: Makes windows; None: nothing can be made, as there is no clip.
        progress: Called after each window.

    Raises:
        ReplayError: A prompt is not known, or there is no clip.
    """
    first = run.windows[0]
    result = RunResult(run.number, first.seed)
    if run.live:
        result.notes.append(CAMERA)
        return result
    if rendering is None:
        clip = first.clip
        raise ReplayError(
            "the journal has no clip: name it with --clip FILE; it has "
            f"{clip['frames']} frames of {clip['width']}x{clip['height']}, {clip['bytes']} bytes"
        )
    await _Comparing(journal, run, rendering, result, progress).all()
    _note_the_rest(run, result)
    return result


class _Comparing:
    def __init__(
        self,
        journal: Journal,
        run: Run,
        rendering: Rendering,
        result: RunResult,
        progress: Progress,
    ) -> None:
        self._journal = journal
        self._run = run
        self._rendering = rendering
        self._result = result
        self._progress = progress
        self._digests: dict[tuple[int, int, int], list[str]] = {}
        """Of windows that were made, of all their frames."""
        self._last: Window | None = None

    async def all(self) -> None:
        for window in self._run.windows:
            if window.key not in self._digests and not await self._reach(window):
                self._result.notes.append(
                    f"windows before window {window.index} are missing in the journal: the run "
                    "cannot be made again from there on"
                )
                return
            self._compare(window, self._digests[window.key])
            self._progress(self._result)

    async def _reach(self, window: Window) -> bool:
        """Makes a window, and those before it that the journal lacks; tells whether it can."""
        if not self._rendering.can_make(window):
            missing = _between(self._last, window, self._journal.actor.window)
            if not missing or not self._rendering.can_make(missing[0]):
                return False
            for each in missing:
                await self._make(each)
            self._result.notes.append(
                f"{len(missing)} windows are missing before window {window.index}: they were made "
                "as those around them, and compared with nothing"
            )
        await self._make(window)
        return True

    async def _make(self, window: Window) -> None:
        try:
            made = await self._rendering.make(window)
        except ClipFailedError as error:
            raise ReplayError("the clip cannot be decoded on") from error
        result = self._result
        result.windows += 1
        if window.source and made.source_digest != window.source and not result.source_difference:
            frame = window.answers_from
            result.source_difference = Place(window.run, window.chunk_of(frame), frame)
        self._digests[window.key] = [records.digest(frame) for frame in made.frames]
        self._last = window
        for index, frame in enumerate(made.frames[: window.frames]):
            self._look(window.answers_from + index, frame)

    def _look(self, number: int, frame: Frames) -> None:
        """Compares a frame with the picture that was shown, where the journal has it."""
        reference = self._run.references.get(number)
        if reference is None:
            return
        actor, result = self._journal.actor, self._result
        picture = reference_picture(reference, actor.width, actor.height)
        result.pictures += 1
        result.reduced |= reference.scale > 1
        result.worst_db = min(result.worst_db, psnr(reduced(frame, reference.scale), picture))

    def _compare(self, window: Window, made: Sequence[str]) -> None:
        result = self._result
        if not window.digests:
            result.unknown += window.frames - window.skip
            return
        for index, known in enumerate(window.digests, start=window.skip):
            result.compared += 1
            if known == made[index]:
                result.equal += 1
            elif result.first_difference is None:
                frame = window.answers_from + index
                result.first_difference = Place(window.run, window.chunk_of(frame), frame)


def _between(last: Window | None, window: Window, steady: int) -> list[Window]:
    """Returns the windows between two, where it is clear what they were made with."""
    if last is None or last.run != window.run or window.index <= last.index + 1:
        return []
    same = (last.prompt, last.earlier, last.seed, last.steps) == (
        window.prompt,
        window.earlier,
        window.seed,
        window.steps,
    )
    frames = window.first - (last.first + last.source_frames)
    if not same or last.earlier or frames != steady * (window.index - last.index - 1):
        return []
    first = last.first + last.source_frames
    return [
        replace(
            last,
            index=index,
            first=first + steady * number,
            source_frames=steady,
            answers_from=first + steady * number,
            frames=0,
            skip=0,
            source="",
            chunks=(),
            digests=(),
        )
        for number, index in enumerate(range(last.index + 1, window.index))
    ]


def _note_the_rest(run: Run, result: RunResult) -> None:
    if run.restored:
        times = "once" if run.restored == 1 else f"{run.restored} times"
        result.notes.append(f"it went on at another actor {times}")
    if result.unknown:
        result.notes.append(f"of {result.unknown} frames the journal has no digest")
    if run.why == "full":
        result.notes.append("the journal was full: later windows of it are not there")
    elif run.why == "gap":
        result.notes.append("the journal has a gap")
    if result.source_difference is not None:
        result.notes.append(
            "the source frames differ from "
            f"{result.source_difference} on: it is another clip, or is decoded differently here"
        )
