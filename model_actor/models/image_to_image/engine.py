"""The stages of a window: pictures to latents, latents through the steps, and to pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from model_actor.models.image_to_image import loading, stream
from model_actor.models.image_to_image.denoising import Schedule
from model_actor.models.image_to_image.folder import CHANNELS, Description
from model_actor.models.image_to_image.framing import WINDOW, group_size
from model_actor.models.image_to_image.prompts import Prompts
from model_actor.models.image_to_image.stream import Group, StreamSession, Underway
from model_actor.models.sana_streaming import pixels
from model_actor.plugin import WindowTask
from scheduler.core.errors import InvariantError, PluginError
from scheduler.core.prompts import Blend

DTYPES: Final = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
GUIDANCE: Final = 7.5
"""What models that were distilled with guidance as an input are told of it."""


class Engine:
    """A loaded model, and what its stages do."""

    def __init__(
        self,
        parts: loading.Parts,
        schedule: Schedule,
        size: tuple[int, int],
        cell: int,
        device: torch.device,
    ) -> None:
        """Takes the parts.

        Args:
            parts: On the device.
            schedule: The steps that every frame takes.
            size: Height and width of pictures.
            cell: Pixels of a latent, either way.
            device: Where the parts are.
        """
        self.device = device
        self.prompts = Prompts(parts.text_encoder, parts.tokenizer)
        self._unet, self._vae = parts.unet, parts.vae
        self._schedule = schedule
        self._size = size
        self._shape = (CHANNELS, size[0] // cell, size[1] // cell)
        self._group = group_size(schedule.steps)
        self._guidance = _guidance(parts.unet)
        self._stages = {"encode": self.encode, "generate": self.generate, "decode": self.decode}

    @classmethod
    def load(
        cls,
        description: Description,
        *,
        size: tuple[int, int],
        device: str,
        dtype: str,
        threads: int,
        steps: int,
        strength: float,
    ) -> Engine:
        """Loads a folder.

        Raises:
            PluginError: It is damaged, or cannot be placed as wished.
        """
        if threads:
            torch.set_num_threads(threads)
        try:
            there = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise PluginError("device is cuda, cuda:1 or cpu") from error
        if there.type == "cuda" and not torch.cuda.is_available():
            raise PluginError("device=cuda, and this machine has no GPU that torch can use")
        usual = "float16" if there.type == "cuda" else "float32"
        parts = loading.load(description, there, DTYPES[dtype or usual])
        schedule = Schedule.of(parts.scheduler, steps, strength, there)
        return cls(parts, schedule, size, description.cell, there)

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs a stage.

        Raises:
            InvariantError: There is no such stage.
        """
        if name not in self._stages:
            raise InvariantError(f"image-to-image has no stage {name!r}")
        self._stages[name](batch)
        if self.device.type == "cuda":
            # What a stage takes is measured by who calls it, and booked.
            torch.cuda.current_stream(self.device).synchronize()

    @torch.inference_mode()
    def encode(self, batch: Sequence[WindowTask]) -> None:
        """Makes latents of source frames: a window at a time, which is a batch of frames."""
        for task in batch:
            session = _session(task)
            session.check(task.run, task.index)
            latents = self._latents(task)
            fresh = [Group(each, 0) for each in latents.split(self._group)]
            moving = list(session.moving) if task.index else []
            session.underway = Underway(task.run, task.index, fresh, moving)

    @torch.inference_mode()
    def generate(self, batch: Sequence[WindowTask]) -> None:
        """Takes frames through the steps; those of all sessions in one call of the model.

        The last window of a clip leaves nothing under way.
        """
        windows = [(_underway(task), task) for task in batch]
        drawn = [self._drawn(task) for task in batch]
        told = [self.prompts.mixture(Blend(task.prompt, task.earlier).shares) for task in batch]
        for (window, _), noise in zip(windows, drawn, strict=True):
            window.fresh = [
                Group(self._schedule.begin(group.latents, noise), 0) for group in window.fresh
            ]
        while True:
            passing = [
                (window, noise, prompt)
                for (window, task), noise, prompt in zip(windows, drawn, told, strict=True)
                if window.feed() or (task.last and window.moving)
            ]
            if not passing:
                return
            self._pass(passing)

    @torch.inference_mode()
    def decode(self, batch: Sequence[WindowTask]) -> None:
        """Makes pictures, and puts finished windows into what their sessions remember."""
        results = [self._pictures(_underway(task)) for task in batch]
        for task, frames in zip(batch, results, strict=True):
            session, window = _session(task), _underway(task)
            task.result = frames
            session.run, session.windows = task.run, task.index + 1
            session.moving, session.underway = tuple(window.moving), None

    def restore(self, data: bytes) -> StreamSession:
        """Makes a session from a snapshot.

        Raises:
            PluginError: It is none of this model as it is configured.
        """
        shape = (self._group, *self._shape)
        return stream.restored(data, self.device, shape, self._schedule.steps)

    def _pass(self, passing: Sequence[tuple[Underway, Tensor, Tensor]]) -> None:
        """Takes all groups of some windows one step on."""
        groups = [group for window, _, _ in passing for group in window.moving]
        steps = [group.step for group in groups for _ in group.latents]
        x = torch.cat([group.latents for group in groups])
        at = torch.tensor(steps, device=self.device)
        noise = torch.cat([_for_all(window, noise) for window, noise, _ in passing])
        prompt = torch.cat([_for_all(window, prompt) for window, _, prompt in passing])
        moved = self._schedule.advance(x, self._told(x, at, prompt), at, noise)
        rest = iter(moved.split([len(group.latents) for group in groups]))
        for window, _, _ in passing:
            stepped = [Group(next(rest), group.step + 1) for group in window.moving]
            window.take(stepped, self._schedule.steps)

    def _told(self, x: Tensor, at: Tensor, prompt: Tensor) -> Tensor:
        """Asks the model what it makes of latents."""
        guidance = self._guidance
        answer: Tensor = self._unet(
            x.to(self._unet.dtype),
            self._schedule.times[at],
            encoder_hidden_states=prompt,
            timestep_cond=None if guidance is None else guidance.expand(len(x), -1),
            return_dict=False,
        )[0]
        return answer.float().contiguous()

    def _latents(self, task: WindowTask) -> Tensor:
        if task.source.shape[1:] != (self._size[0] * 3 // 2, self._size[1]):
            raise InvariantError("the source is of another size")
        frames = torch.from_numpy(np.array(task.source)).to(self.device)
        pictures = pixels.from_i420(frames).transpose(0, 1).to(self._vae.dtype).contiguous()
        told = self._vae.encode(pictures)
        # The likeliest latent, and not one drawn around it: that would boil.
        latents = told.latents if hasattr(told, "latents") else told.latent_dist.mode()
        # As a snapshot would have them: kernels round by how numbers lie in memory.
        return (latents * self._vae.config.scaling_factor).float().contiguous()

    def _pictures(self, window: Underway) -> np.ndarray[Any, np.dtype[np.uint8]]:
        scale = self._vae.config.scaling_factor
        decoded = [
            self._vae.decode((part / scale).to(self._vae.dtype), return_dict=False)[0]
            for part in torch.cat(window.finished).split(WINDOW)
        ]
        shown = torch.cat(decoded).clamp(-1, 1).transpose(0, 1)
        frames: np.ndarray[Any, np.dtype[np.uint8]] = pixels.to_i420(shown).cpu().numpy()
        return frames

    def _drawn(self, task: WindowTask) -> Tensor:
        """Returns the noise of a run, (1, channels, height, width): the same for every frame, so
        that what stands still stays as it is, and on any device, in any batch.
        """
        session = _session(task)
        if session.drawn is None or session.drawn[0] != task.seed:
            generator = torch.Generator("cpu").manual_seed(task.seed)
            drawn = torch.randn((1, *self._shape), generator=generator)
            session.drawn = (task.seed, drawn.to(self.device))
        return session.drawn[1]


def _guidance(unet: Any) -> Tensor | None:  # noqa: ANN401 - diffusers is not typed
    """Returns what a model is told of guidance, where it was distilled with it, (1, channels).

    Source: arXiv 2310.04378, 4.1; the embedding is that of times.
    """
    channels = unet.config.time_cond_proj_dim
    if channels is None:
        return None
    half = channels // 2
    rates = torch.exp(torch.arange(half) * -(math.log(10_000.0) / (half - 1)))
    angles = (GUIDANCE - 1) * 1000.0 * rates
    told = pad(torch.cat((angles.sin(), angles.cos())), (0, channels % 2))[None]
    return told.to(unet.device, unet.dtype)


def _for_all(window: Underway, one: Tensor) -> Tensor:
    """Returns what is the same for all frames of a window, once for each that is under way."""
    return one.expand(sum(len(group.latents) for group in window.moving), *one.shape[1:])


def _session(task: WindowTask) -> StreamSession:
    return stream.checked(task.session)


def _underway(task: WindowTask) -> Underway:
    window = _session(task).underway
    if window is None or (window.run, window.index) != (task.run, task.index):
        raise InvariantError("a stage was run before the one that it needs")
    return window
