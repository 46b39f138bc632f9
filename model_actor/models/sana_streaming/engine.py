"""The stages of a window: pictures to latents, latents to edited latents, and to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from model_actor.models.sana_streaming import bundle, pixels, sampler, snapshot
from model_actor.models.sana_streaming.clip_latents import ClipLatents
from model_actor.models.sana_streaming.decoding import decoder_of
from model_actor.models.sana_streaming.lanes import Overlapped, Streamed
from model_actor.models.sana_streaming.session import SanaSession, Underway
from model_actor.models.sana_streaming.speed import Speed
from model_actor.models.sana_streaming.staging import CudaStreams, copier_of
from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.streaming_vae import ConvState
from model_actor.models.sana_streaming.text import Prompt
from model_actor.models.sana_streaming.transformer import FIRST_FRAMES, FRAMES, Context
from model_actor.plugin import SnapshotParts, WindowTask
from scheduler.core.errors import InvariantError, PluginError
from scheduler.core.prompts import Blend

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_MIX: Final = 0x9E3779B97F4A7C15
"""Spreads the numbers of windows over the seeds: 2^64 divided by the golden ratio."""
_SEEDS: Final = 2**63


class Engine:
    """A loaded model, and what its stages do."""

    def __init__(
        self,
        parts: bundle.Parts,
        size: tuple[int, int],
        device: torch.device,
        *,
        clip_bytes: int = 0,
    ) -> None:
        """Takes the parts of a bundle.

        Args:
            parts: Placed on the device.
            size: Height and width of the pictures.
            device: Where they are.
            clip_bytes: What the source latents of a session's clip may take, to be played again.
        """
        self.device = device
        self._parts = parts
        self._decoder = decoder_of(parts.vae)
        self._clip_bytes = clip_bytes
        ratio = parts.vae.vae.spatial_compression_ratio
        self._size = size
        self._grid = (size[0] // ratio, size[1] // ratio)
        self._copier = copier_of(device)
        self._lanes: Streamed | None = None
        self._overlapped: Overlapped | None = None
        self._stages = {
            "encode": self.encode,
            "generate": self.generate,
            "decode": self.decode,
            "commit": self.commit,
        }

    @classmethod
    def load(
        cls,
        weights: Path,
        *,
        size: tuple[int, int],
        device: str,
        dtype: str,
        threads: int,
        clip_bytes: int,
        speed: Speed,
    ) -> Engine:
        """Loads a bundle.

        Raises:
            PluginError: It is not whole, or cannot be placed as wished.
        """
        if threads:
            torch.set_num_threads(threads)
        if dtype not in ("", *_DTYPES):
            raise PluginError(f"dtype is one of {', '.join(_DTYPES)}")
        try:
            there = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise PluginError("device is cuda, cuda:1 or cpu") from error
        if there.type == "cuda" and not torch.cuda.is_available():
            raise PluginError("device=cuda, and this machine has no GPU that torch can use")
        speed.check(there)
        usual = "bfloat16" if there.type == "cuda" else "float32"
        parts = bundle.load(weights, there, _DTYPES[dtype or usual])
        engine = cls(parts, size, there, clip_bytes=clip_bytes)
        engine.hasten(speed)
        return engine

    def hasten(self, speed: Speed) -> None:
        """Computes faster from here on. Once, before the first window."""
        speed.apply(self._parts.transformer, self._parts.vae)
        if speed.overlap:
            self._lanes = Streamed(CudaStreams(self.device))
            self._overlapped = Overlapped(self._lanes, self._stages)

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs a stage on windows of the same shape.

        Raises:
            InvariantError: There is no such stage.
        """
        if name not in self._stages:
            raise InvariantError(f"sana-streaming has no stage {name!r}")
        if self._overlapped is not None:
            self._overlapped.stage(name, batch)
        else:
            self._stages[name](batch)
            if self.device.type == "cuda":
                # What a stage takes is measured by who calls it, and booked.
                torch.cuda.current_stream(self.device).synchronize()

    def open(self) -> SanaSession:
        """Makes a session before its first window."""
        return SanaSession()

    def read_prompt(self, prompt: str) -> None:
        """Encodes a prompt before it is needed."""
        self._parts.text.encode(prompt)

    @torch.inference_mode()
    def encode(self, batch: Sequence[WindowTask]) -> None:
        """Encodes the source frames of windows of the same shape, where they are not known."""
        fresh, before = [], []
        for task in batch:
            session = _session(task)
            session.check(task.run, task.index)
            clip = session.clip if task.index else self._clip_begun(task)
            if clip is not None and clip.name != task.clip:
                raise InvariantError("a run goes on in another clip")
            known = None if clip is None else clip.known(task.index)
            if known is None:
                fresh.append((task, clip))
                before.append(session.encoder if task.index else ConvState())
            else:
                _fitting(task, self._size)
                session.underway = Underway(task.run, task.index, known, session.encoder, clip)
        if not fresh:
            return
        frames = torch.stack([self._pixels(task) for task, _ in fresh])
        latents, after = self._parts.vae.encode(frames, ConvState.stack(before))
        latents = latents.to(self._parts.transformer.dtype)
        for (task, clip), own, state in zip(
            fresh, latents.split(1), after.split(len(fresh)), strict=True
        ):
            after_it = None if clip is None else clip.joined(own, self._clip_bytes)
            _session(task).underway = Underway(task.run, task.index, own, state, after_it)

    @torch.inference_mode()
    def generate(self, batch: Sequence[WindowTask]) -> None:
        """Makes edited latents with the prompts as they are now."""
        parts, windows = self._parts, [_underway(task) for task in batch]
        prompts = [self._prompt(task) for task in batch]
        states = [self._state(task) for task in batch]
        source = torch.cat([window.source for window in windows])
        noise = torch.cat(
            [self._noise(task, window.source) for task, window in zip(batch, windows, strict=True)]
        )
        frames = FRAMES if batch[0].index else FIRST_FRAMES
        context = parts.transformer.context(
            TransformerState.stack(states),
            torch.cat([each.hidden for each in prompts]),
            torch.cat([each.mask for each in prompts]),
            frames,
            self._grid,
        )
        edited = sampler.denoise(parts.transformer, noise, source, context, batch[0].steps)
        for window, latents, prompt in zip(windows, edited.split(1), prompts, strict=True):
            window.latents = latents
            window.text, window.text_mask = prompt

    @torch.inference_mode()
    def decode(self, batch: Sequence[WindowTask]) -> None:
        """Makes pictures of edited latents."""
        for tasks in self._decoder.alike(batch):
            windows = [_underway(task) for task in tasks]
            before = [
                _session(task).decoder if task.index else self._decoder.begin() for task in tasks
            ]
            latents = torch.cat([_edited(window) for window in windows])
            frames, after = self._decoder.decode(latents, before, last=tasks[0].last)
            for task, window, own, state in zip(tasks, windows, frames, after, strict=True):
                window.decoder = state
                task.result = pixels.to_i420(own).cpu().numpy()

    @torch.inference_mode()
    def commit(self, batch: Sequence[WindowTask]) -> None:
        """Puts finished windows into what their sessions remember."""
        parts, windows = self._parts, [_underway(task) for task in batch]
        state = TransformerState.stack([self._state(task) for task in batch])
        after = sampler.commit(
            parts.transformer,
            torch.cat([_edited(window) for window in windows]),
            torch.cat([window.source for window in windows]),
            self._context(batch, state),
            state,
        )
        for task, window, own in zip(batch, windows, after.split(), strict=True):
            session = _session(task)
            session.run, session.windows = task.run, task.index + 1
            session.state = own.clone()
            session.encoder, session.decoder = window.encoder, window.decoder
            session.clip = window.clip
            session.sink = session.sink if task.index else ""
            session.underway = None

    def snapshot(self, session: object) -> SnapshotParts:
        """Serialises a session between two windows, as it is read."""
        if self._lanes is not None:
            self._lanes.join()
        return snapshot.taken(_checked(session), self._copier)

    def restore(self, data: memoryview) -> SanaSession:
        """Makes a session from a snapshot."""
        return self._accepted(snapshot.restored(data, self.device))

    def close(self, session: object) -> None:
        """Lets go of a session's memory."""
        if self._overlapped is not None:
            self._overlapped.forget(session)
        _checked(session).clear()

    def _context(self, batch: Sequence[WindowTask], state: TransformerState) -> Context:
        texts, masks = zip(*(_text(_underway(task)) for task in batch), strict=True)
        return self._parts.transformer.context(
            state,
            torch.cat(texts),
            torch.cat(masks),
            FRAMES if batch[0].index else FIRST_FRAMES,
            self._grid,
        )

    def _accepted(self, session: SanaSession) -> SanaSession:
        """Returns a session that came from elsewhere.

        Raises:
            PluginError: It was decoded in another way there.
        """
        if session.windows and type(session.decoder) is not type(self._decoder.begin()):
            raise PluginError("a snapshot of sana-streaming with another decoder")
        return session

    def _clip_begun(self, task: WindowTask) -> ClipLatents | None:
        """Returns what is known of the clip that a run begins with; None where it is not to be
        kept: a camera, or a run that goes on in the middle of a clip.
        """
        if not (task.clip and self._clip_bytes) or task.first_frame:
            return None
        known = _session(task).clip
        return known if known is not None and known.name == task.clip else ClipLatents(task.clip)

    def _prompt(self, task: WindowTask) -> Prompt:
        """Returns what a window is told: a prompt, or a mixture in the middle of a transition."""
        shares = Blend(task.prompt, task.earlier).shares
        told = self._parts.text.mixture((each.prompt, each.share) for each in shares)
        return Prompt(told.hidden.to(self.device), told.mask.to(self.device, torch.float32))

    def _pixels(self, task: WindowTask) -> Tensor:
        frames = torch.from_numpy(np.array(task.source)).to(self.device)
        return pixels.from_i420(frames)

    def _state(self, task: WindowTask) -> TransformerState:
        session = _session(task)
        if task.index and session.state is not None:
            return session.state
        return self._parts.transformer.begin(1, self._grid)

    def _noise(self, task: WindowTask, like: Tensor) -> Tensor:
        """Draws a window's noise: the same for the same seed and window, whatever came before,
        on any device and in any batch.
        """
        generator = torch.Generator("cpu").manual_seed(
            (task.seed + (task.index + 1) * _MIX) % _SEEDS
        )
        return torch.randn(like.shape, generator=generator).to(self.device)


def _checked(session: object) -> SanaSession:
    if not isinstance(session, SanaSession):
        raise InvariantError("not a session of sana-streaming")
    return session


def _session(task: WindowTask) -> SanaSession:
    return _checked(task.session)


def _fitting(task: WindowTask, size: tuple[int, int]) -> None:
    """Checks a source that is not looked at because it is known."""
    if task.source.shape[1:] != (size[0] * 3 // 2, size[1]):
        raise InvariantError("the source is of another size")


def _underway(task: WindowTask) -> Underway:
    window = _session(task).underway
    if window is None or (window.run, window.index) != (task.run, task.index):
        raise InvariantError("a stage was run before the one that it needs")
    return window


def _text(window: Underway) -> tuple[Tensor, Tensor]:
    if window.text is None or window.text_mask is None:
        raise InvariantError("a window was committed before it was made")
    return window.text, window.text_mask


def _edited(window: Underway) -> Tensor:
    if window.latents is None:
        raise InvariantError("a window was decoded before it was made")
    return window.latents
