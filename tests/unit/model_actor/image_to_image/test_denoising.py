"""The steps are those of diffusers' own pipelines, latent by latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LatentConsistencyModelImg2ImgPipeline, StableDiffusionImg2ImgPipeline
from torch import Tensor

from model_actor.models.image_to_image import folder, loading
from model_actor.models.image_to_image.denoising import PREDICTIONS, Schedule
from model_actor.models.image_to_image.engine import Engine
from model_actor.models.image_to_image.folder import FolderError
from model_actor.models.image_to_image.stream import Group, Underway

pytestmark = pytest.mark.unit

LATENT = (1, 4, 6, 8)
PROMPT = "an oil painting of a stormy harbour"


def parts_of(weights: Path) -> loading.Parts:
    return loading.load(folder.describe(weights), torch.device("cpu"), torch.float32)


def ours(parts: loading.Parts, latents: Tensor, drawn: Tensor, steps: int) -> Tensor:
    """Takes two groups of frames through the stream."""
    schedule = Schedule.of(parts.scheduler, steps, 0.5)
    engine = Engine(parts, schedule, (48, 64), 8, torch.device("cpu"))
    fresh = [Group(schedule.begin(each, drawn), 0) for each in latents.split(1)]
    window = Underway(1, 0, fresh, [])
    with torch.inference_mode():
        while window.feed() or window.moving:
            engine._pass([(window, drawn, engine.prompts.read(PROMPT))])
    return torch.cat(window.finished)


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Makes diffusers draw what our sessions have: one noise for everything."""
    drawn = torch.randn(LATENT, generator=torch.Generator().manual_seed(3))
    for module in (
        "pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",
        "pipelines.latent_consistency_models.pipeline_latent_consistency_img2img",
        "schedulers.scheduling_lcm",
    ):
        monkeypatch.setattr(f"diffusers.{module}.randn_tensor", lambda *_, **__: drawn)
    return drawn


def pipeline(kind: Any, parts: loading.Parts) -> Any:
    made = kind(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=parts.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_euler_steps_are_those_of_diffusers(turbo: Path, same_noise: Tensor, steps: int) -> None:
    parts = parts_of(turbo)
    latents = torch.randn((2, *LATENT[1:]), generator=torch.Generator().manual_seed(1))
    theirs = torch.cat(
        [
            pipeline(StableDiffusionImg2ImgPipeline, parts)(
                prompt=PROMPT,
                # Latents are taken as they are.
                image=each,
                # Of so many, at this strength as many are made as ours has.
                num_inference_steps=2 * steps,
                strength=0.5,
                guidance_scale=1.0,
                output_type="latent",
            ).images
            for each in latents.split(1)
        ]
    )
    found = ours(parts, latents, same_noise, steps)
    assert torch.allclose(found, theirs, atol=1e-4), float((found - theirs).abs().max())
    assert float((found - latents).abs().mean()) > 0.1


@pytest.mark.parametrize(
    ("steps", "scaling"),
    # The last one gives the latent itself a weight in the picture that shows.
    [(1, 10.0), (2, 10.0), (3, 10.0), (2, 0.001)],
)
def test_consistency_steps_are_those_of_diffusers(
    consistency: Path, same_noise: Tensor, steps: int, scaling: float
) -> None:
    parts = parts_of(consistency)
    parts.scheduler.register_to_config(timestep_scaling=scaling)
    latents = torch.randn((2, *LATENT[1:]), generator=torch.Generator().manual_seed(1))
    theirs = torch.cat(
        [
            pipeline(LatentConsistencyModelImg2ImgPipeline, parts)(
                prompt=PROMPT,
                image=each,
                num_inference_steps=steps,
                strength=0.5,
                guidance_scale=7.5,
                output_type="latent",
            ).images
            for each in latents.split(1)
        ]
    )
    found = ours(parts, latents, same_noise, steps)
    assert torch.allclose(found, theirs, atol=1e-4), float((found - theirs).abs().max())


def test_the_times_of_turbo_models_come_out(turbo: Path) -> None:
    scheduler = parts_of(turbo).scheduler
    assert Schedule.of(scheduler, 2, 0.5).times.tolist() == [499, 249]
    assert Schedule.of(scheduler, 3, 0.75).times.tolist() == [749, 499, 249]
    assert Schedule.of(scheduler, 1, 1.0).times.tolist() == [999]


def test_each_way_to_tell_finds_the_picture() -> None:
    picture, drawn = torch.randn(2, *LATENT).unbind()
    signal, noise = torch.tensor(0.8), torch.tensor(0.6)
    x = signal * picture + noise * drawn
    told = {"epsilon": drawn, "v_prediction": signal * drawn - noise * picture, "sample": picture}
    assert told.keys() == PREDICTIONS.keys()
    for name, find in PREDICTIONS.items():
        assert torch.allclose(find(x, told[name], signal, noise), picture, atol=1e-5)


def test_more_steps_than_a_model_was_distilled_for_are_refused(consistency: Path) -> None:
    scheduler = parts_of(consistency).scheduler
    with pytest.raises(FolderError, match="take fewer steps or more strength"):
        Schedule.of(scheduler, 3, 0.05)


def test_another_kind_of_model_is_refused(turbo: Path) -> None:
    scheduler = parts_of(turbo).scheduler
    scheduler.register_to_config(prediction_type="flow")
    with pytest.raises(FolderError, match="prediction_type is flow"):
        Schedule.of(scheduler, 2, 0.5)
