"""A stream of frames on their way through the steps, several of them at each step at once.

Frames come in *groups*. A pass of the model takes every group that is under way one step on: the
newest its first, the one before its second, and so on; so one pass is as large as all steps, and
after each a finished group comes out (arXiv 2312.12491, 3.1). What is under way when a window
ends is all that a session remembers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from model_actor.models.sana_streaming import tensor_bytes
from scheduler.core.errors import InvariantError, PluginError

VERSION: Final = 1
"""Of the snapshots; another one is refused."""
_HEADER: Final = "header"


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that are at the same step."""

    latents: Tensor
    """(frames, channels, height, width), fp32."""
    step: int
    """The next one, from 0."""


@dataclass(slots=True)
class Underway:
    """A window on its way through the stages: nothing of the session changes before the last."""

    run: int
    index: int
    fresh: list[Group]
    """Not begun yet."""
    moving: list[Group]
    """In the order of their frames."""
    finished: list[Tensor] = field(default_factory=list)
    """Latents of edited frames, in order."""

    def feed(self) -> bool:
        """Puts the next fresh group under way; returns whether there was one."""
        if self.fresh:
            self.moving.append(self.fresh.pop(0))
            return True
        return False

    def take(self, moved: list[Group], steps: int) -> None:
        """Takes the groups under way as they are after a pass."""
        self.moving = [group for group in moved if group.step < steps]
        self.finished += [group.latents for group in moved if group.step == steps]


@dataclass(slots=True)
class StreamSession:
    """What a session needs from one window to the next."""

    run: int = -1
    windows: int = 0
    """Windows of the run that are finished."""
    moving: tuple[Group, ...] = ()
    underway: Underway | None = None
    drawn: tuple[int, Tensor] | None = None
    """The noise of all its frames, and the seed that it follows from: kept, not remembered."""

    def check(self, run: int, index: int) -> None:
        """Passes when a window is the next.

        Raises:
            InvariantError: It follows another than the last.
        """
        if index and (run, index) != (self.run, self.windows):
            raise InvariantError(
                f"window {index} of run {run} was asked for after {self.windows} windows of run "
                f"{self.run}"
            )

    def clear(self) -> None:
        """Lets go of all memory."""
        self.moving, self.underway, self.drawn = (), None, None


def checked(session: object) -> StreamSession:
    """Returns a session that is one of ours.

    Raises:
        InvariantError: It is none.
    """
    if not isinstance(session, StreamSession):
        raise InvariantError("not a session of image-to-image")
    return session


def snapshot(session: StreamSession) -> bytes:
    """Serialises a session between two windows: one file of safetensors."""
    tensors = {str(at): group.latents.cpu() for at, group in enumerate(session.moving)}
    header = {
        "version": VERSION,
        "run": session.run,
        "windows": session.windows,
        "steps": [group.step for group in session.moving],
    }
    head = tensor_bytes.head(tensors, {_HEADER: json.dumps(header)})
    return head + b"".join(tensor_bytes.flat(each).numpy().tobytes() for each in tensors.values())


def restored(
    data: bytes, device: torch.device, shape: tuple[int, ...], steps: int
) -> StreamSession:
    """Makes a session from a snapshot.

    Args:
        data: What `snapshot` made.
        device: Where it is to be.
        shape: Of a group.
        steps: That are taken here.

    Raises:
        PluginError: It is none, of another version, or of pictures or steps that are not ours.
    """
    try:
        metadata, tensors = tensor_bytes.read(memoryview(bytearray(data)), device)
        header: Mapping[str, Any] = json.loads(metadata[_HEADER])
        groups = tuple(
            Group(tensors[str(at)], int(step)) for at, step in enumerate(header["steps"])
        )
        session = StreamSession(int(header["run"]), int(header["windows"]), groups)
    except (ValueError, KeyError, TypeError) as error:
        raise PluginError("not a snapshot of image-to-image") from error
    ours = [steps - 1 - at for at in range(len(groups))]
    if (
        header.get("version") != VERSION
        or len(groups) not in (0, steps - 1)
        or any(group.latents.shape != shape for group in groups)
        or [group.step for group in groups] != ours
    ):
        raise PluginError("a snapshot of image-to-image of another size, or with other steps")
    return session
