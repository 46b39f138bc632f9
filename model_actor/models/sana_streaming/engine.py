"""The stages of a window: pictures to latents, latents to edited latents, and to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from model_actor.models.sana_streaming import bundle, pixels, sampler
from model_actor.models.sana_streaming.session import SanaSession, Underway
from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.streaming_vae import ConvState
from model_actor.models.sana_streaming.transformer import FIRST_FRAMES, FRAMES, Context
from model_actor.plugin import WindowTask
from scheduler.core.errors import InvariantError, PluginError

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_MIX: Final = 0x9E3779B97F4A7C15
"""Spreads the numbers of windows over the seeds: 2^64 divided by the golden ratio."""
_SEEDS: Final = 2**63


class Engine:
    """A loaded model, and what its stages do."""

    def __init__(self, parts: bundle.Parts, size: tuple[int, int], device: torch.device) -> None:
        """Takes the parts of a bundle.

        Args:
            parts: Placed on the device.
            size: Height and width of the pictures.
            device: Where they are.
        """
        self.device = device
        self._parts = parts
        ratio = parts.vae.vae.spatial_compression_ratio
        self._grid = (size[0] // ratio, size[1] // ratio)

    @classmethod
    def load(
        cls, weights: Path, *, size: tuple[int, int], device: str, dtype: str, threads: int
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
        usual = "bfloat16" if there.type == "cuda" else "float32"
        return cls(bundle.load(weights, there, _DTYPES[dtype or usual]), size, there)

    def open(self) -> SanaSession:
        """Makes a session before its first window."""
        return SanaSession()

    @torch.inference_mode()
    def encode(self, batch: Sequence[WindowTask]) -> None:
        """Encodes the source frames of windows of the same shape."""
        sessions = [_session(task) for task in batch]
        for task, session in zip(batch, sessions, strict=True):
            session.check(task.run, task.index)
        before = [
            session.encoder if task.index else ConvState()
            for task, session in zip(batch, sessions, strict=True)
        ]
        frames = torch.stack([self._pixels(task) for task in batch])
        latents, after = self._parts.vae.encode(frames, ConvState.stack(before))
        for task, own, state in zip(batch, latents.split(1), after.split(len(batch)), strict=True):
            _session(task).underway = Underway(task.run, task.index, own, state)

    @torch.inference_mode()
    def generate(self, batch: Sequence[WindowTask]) -> None:
        """Makes edited latents with the prompts as they are now."""
        parts, windows = self._parts, [_underway(task) for task in batch]
        texts, masks = zip(*(parts.text.encode(task.prompt) for task in batch), strict=True)
        states = [self._state(task) for task in batch]
        source = torch.cat([window.source for window in windows])
        noise = torch.cat(
            [self._noise(task, window.source) for task, window in zip(batch, windows, strict=True)]
        )
        text, mask = torch.cat(texts).to(self.device), torch.cat(masks).to(self.device)
        frames = FRAMES if batch[0].index else FIRST_FRAMES
        context = parts.transformer.context(
            TransformerState.stack(states), text, mask, frames, self._grid
        )
        edited = sampler.denoise(parts.transformer, noise, source, context)
        for window, latents, own_text, own_mask in zip(
            windows, edited.split(1), texts, masks, strict=True
        ):
            window.latents = latents
            window.text, window.text_mask = own_text, own_mask

    @torch.inference_mode()
    def decode(self, batch: Sequence[WindowTask]) -> None:
        """Makes pictures of edited latents."""
        windows = [_underway(task) for task in batch]
        before = [_session(task).decoder if task.index else ConvState() for task in batch]
        latents = torch.cat([_edited(window) for window in windows])
        frames, after = self._parts.vae.decode(latents, ConvState.stack(before))
        for task, window, own, state in zip(
            batch, windows, frames, after.split(len(batch)), strict=True
        ):
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
            session.underway = None

    def snapshot(self, session: object) -> bytes:
        """Serialises a session between two windows."""
        return _checked(session).to_bytes()

    def restore(self, snapshot: bytes) -> SanaSession:
        """Makes a session from a snapshot."""
        return SanaSession.from_bytes(snapshot, self.device)

    def close(self, session: object) -> None:
        """Lets go of a session's memory."""
        held = _checked(session)
        held.state, held.underway = None, None
        held.encoder = held.decoder = ConvState()

    def _context(self, batch: Sequence[WindowTask], state: TransformerState) -> Context:
        texts, masks = zip(*(_text(_underway(task)) for task in batch), strict=True)
        return self._parts.transformer.context(
            state,
            torch.cat(texts).to(self.device),
            torch.cat(masks).to(self.device),
            FRAMES if batch[0].index else FIRST_FRAMES,
            self._grid,
        )

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
