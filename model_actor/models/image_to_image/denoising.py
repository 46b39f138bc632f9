"""The steps from noise to picture, for latents that are at different steps at once.

A latent at a step is `signal * picture + noise * drawn`. The model says what of it is noise;
from that follows what the picture is, and from that the latent at the next step. Two ways:

* consistency (`LCMScheduler`): the picture, weighted with the latent, is covered with noise
  again, less of it (arXiv 2310.04378, 4). Always the same noise of a session: what is drawn anew
  for each frame makes a still scene boil.
* Euler (`EulerDiscreteScheduler`): the noise that the model has found is kept, less of it. In
  these scales its step is DDIM's without chance (arXiv 2010.02502, 4.1).

All numbers in fp32, whatever the model computes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from model_actor.models.image_to_image.folder import FolderError

_DATA: Final = 0.5
"""Standard deviation of data that consistency models are taught with."""
_Found = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _of_noise(x: Tensor, told: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    return (x - noise * told) / signal


def _of_velocity(x: Tensor, told: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    return signal * x - noise * told


def _of_picture(_x: Tensor, told: Tensor, _signal: Tensor, _noise: Tensor) -> Tensor:
    return told


PREDICTIONS: Final[dict[str, _Found]] = {
    "epsilon": _of_noise,
    "v_prediction": _of_velocity,
    "sample": _of_picture,
}
"""How the picture follows from a latent and what the model says of it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps; each tensor has one number a step, (steps,)."""

    times: Tensor
    """What the model is told of each."""
    signal: Tensor
    noise: Tensor
    next_signal: Tensor
    """Of the step that follows; 1 after the last."""
    next_noise: Tensor
    skip: Tensor
    """Weight of the latent itself in the picture: consistency models are taught with it."""
    out: Tensor
    """Weight of what was found."""
    found: _Found
    is_consistency: bool

    @classmethod
    def of(
        cls,
        scheduler: Any,  # noqa: ANN401 - diffusers is not typed
        steps: int,
        strength: float,
        device: torch.device | str = "cpu",
    ) -> Schedule:
        """Returns the steps of a model.

        Args:
            scheduler: Of diffusers, an `LCMScheduler` or an `EulerDiscreteScheduler`.
            steps: How many.
            strength: How far towards pure noise a picture is taken first, above 0 to 1.
            device: Where the latents are.

        Raises:
            FolderError: The model was trained for something else.
        """
        is_consistency = type(scheduler).__name__ == "LCMScheduler"
        prediction = scheduler.config.prediction_type
        if prediction not in PREDICTIONS:
            raise FolderError(f"the scheduler's prediction_type is {prediction}")
        times = _times(scheduler, steps, strength, is_consistency=is_consistency)
        alphas = scheduler.alphas_cumprod.float()[times]
        signal, noise = alphas.sqrt(), (1 - alphas).sqrt()
        skip, out = torch.zeros(steps), torch.ones(steps)
        if is_consistency:
            scaled = times.float() * scheduler.config.timestep_scaling
            skip = _DATA**2 / (scaled**2 + _DATA**2)
            out = scaled / (scaled**2 + _DATA**2).sqrt()
        return cls(
            times=times.float().to(device),
            signal=signal.to(device),
            noise=noise.to(device),
            next_signal=torch.cat((signal[1:], torch.ones(1))).to(device),
            next_noise=torch.cat((noise[1:], torch.zeros(1))).to(device),
            skip=skip.to(device),
            out=out.to(device),
            found=PREDICTIONS[prediction],
            is_consistency=is_consistency,
        )

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.times)

    def begin(self, latents: Tensor, drawn: Tensor) -> Tensor:
        """Covers pictures with noise, as much as the first step wants.

        Args:
            latents: (frames, channels, height, width).
            drawn: Noise, of the same shape or one for all frames.
        """
        return self.signal[0] * latents + self.noise[0] * drawn

    def advance(self, x: Tensor, told: Tensor, at: Tensor, drawn: Tensor) -> Tensor:
        """Takes latents one step on; what was at the last one becomes the picture.

        Args:
            x: Latents, (frames, channels, height, width).
            told: What the model says of them.
            at: At which step each of them is, (frames,).
            drawn: The noise of their sessions, shaped as they are.
        """

        def each(numbers: Tensor) -> Tensor:
            return numbers[at][:, None, None, None]

        signal, noise = each(self.signal), each(self.noise)
        found = self.found(x, told, signal, noise)
        picture = each(self.out) * found + each(self.skip) * x
        rest = drawn if self.is_consistency else (x - signal * found) / noise
        return each(self.next_signal) * picture + each(self.next_noise) * rest


def _times(
    scheduler: Any,  # noqa: ANN401 - diffusers is not typed
    steps: int,
    strength: float,
    *,
    is_consistency: bool,
) -> Tensor:
    """Returns the times of the steps, of the many that the model was trained with.

    Of a consistency model, those that it was distilled at; of others, evenly spaced from the
    strength down: turbo models' own, where the strength is as many quarters as there are steps.
    """
    if is_consistency:
        try:
            scheduler.set_timesteps(steps, strength=strength)
        except ValueError:
            raise FolderError(
                f"{steps} steps at strength {strength:g} are more than the model was distilled "
                "for: take fewer steps or more strength"
            ) from None
        return torch.as_tensor(scheduler.timesteps).long()
    most = strength * scheduler.config.num_train_timesteps
    return torch.tensor([max(0, round(most * (steps - at) / steps) - 1) for at in range(steps)])
