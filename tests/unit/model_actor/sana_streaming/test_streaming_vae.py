"""A few frames at a time equals all at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model_actor.models.sana_streaming import tiny, windowed_decoder
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.models.sana_streaming.windowed_decoder import WindowState
from scheduler.core.errors import InvariantError, PluginError

pytestmark = pytest.mark.unit


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


@pytest.fixture(scope="module")
def causal() -> StreamingVae:
    return StreamingVae(tiny.vae(torch.Generator().manual_seed(5), "causal"))


@pytest.fixture(scope="module")
def windowed() -> StreamingVae:
    return StreamingVae(tiny.vae(torch.Generator().manual_seed(5), "windowed"))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def encoded(vae: StreamingVae, clip: Tensor, *ends: int) -> Tensor:
    state, made = ConvState(), []
    for begin, end in zip((0, *ends), ends, strict=False):
        latents, state = vae.encode(clip[:, :, begin:end], state)
        made.append(latents)
    return torch.cat(made, 2)


@torch.no_grad()
def decoded(vae: StreamingVae, latents: Tensor, *ends: int) -> Tensor:
    state, made = ConvState(), []
    for begin, end in zip((0, *ends), ends, strict=False):
        pixels, state = vae.decode(latents[:, :, begin:end], state)
        made.append(pixels)
    return torch.cat(made, 2)


@pytest.mark.parametrize("ends", [(33, 57), (1, 9, 57), (57,)], ids=str)
def test_encoding_window_by_window_equals_encoding_the_clip(
    causal: StreamingVae, ends: tuple[int, ...]
) -> None:
    clip, vae = drawn(1, 3, 57, 64, 96), causal.vae
    with torch.no_grad():
        mode = vae.encode(clip).latent_dist.mode()
    mean, std = (each[:, None, None, None] for each in (vae.latents_mean, vae.latents_std))
    close(encoded(causal, clip, *ends), (mode - mean) / std)


@pytest.mark.parametrize("ends", [(5, 8), (1, 2, 8)], ids=str)
def test_decoding_causally_window_by_window_equals_decoding_at_once(
    causal: StreamingVae, ends: tuple[int, ...]
) -> None:
    latents, vae = drawn(1, 8, 8, 2, 3), causal.vae
    mean, std = (each[:, None, None, None] for each in (vae.latents_mean, vae.latents_std))
    with torch.no_grad():
        whole = vae.decode(latents * std + mean).sample
    assert whole.shape[2] == 57
    close(decoded(causal, latents, *ends), whole)


def test_a_batch_equals_each_alone(causal: StreamingVae) -> None:
    clips = drawn(2, 3, 33, 64, 64)
    latents = encoded(causal, clips, 33)
    for one, clip in zip(latents.split(1), clips.split(1), strict=True):
        close(one, encoded(causal, clip, 33))
    pixels = decoded(causal, latents, 5)
    for one, alone in zip(pixels.split(1), latents.split(1), strict=True):
        close(one, decoded(causal, alone, 5))


@torch.no_grad()
def test_states_of_a_batch_come_apart_and_together_again(causal: StreamingVae) -> None:
    clips = drawn(2, 3, 57, 64, 64)
    _, state = causal.encode(clips[:, :, :33], ConvState())
    one, other = state.split(2)
    again = ConvState.stack([one, other])
    assert all(torch.equal(*pair) for pair in zip(again.past, state.past, strict=True))
    assert one.nbytes == other.nbytes == state.nbytes // 2
    latents, _ = causal.encode(clips[1:, :, 33:], other.to("cpu"))
    close(latents, encoded(causal, clips[1:], 33, 57)[:, :, 5:])


@torch.no_grad()
def test_a_windowed_stream_gives_17_frames_then_24s_then_16(windowed: StreamingVae) -> None:
    latents = drawn(1, 8, 11, 2, 2)
    state, made = WindowState(), []
    for begin, end in ((0, 5), (5, 8), (8, 11)):
        pixels, state = windowed_decoder.decode(windowed, latents[:, :, begin:end], state)
        assert pixels is not None
        made.append(pixels)
    last, state = windowed_decoder.decode(windowed, None, state, last=True)
    assert last is not None
    assert [each.shape[2] for each in (*made, last)] == [17, 24, 24, 16]
    assert state == WindowState()
    at_once, _ = windowed_decoder.decode(windowed, latents, WindowState(), last=True)
    assert at_once is not None
    close(torch.cat([*made, last], 2), at_once)


@torch.no_grad()
def test_the_windowed_decoder_looks_ahead_and_no_further_than_its_window(
    windowed: StreamingVae,
) -> None:
    latents, other = drawn(1, 8, 8, 2, 2), drawn(1, 8, 8, 2, 2)
    other[:, :, 4:] += 1
    one, two = (
        windowed_decoder.decode(windowed, each, WindowState(), last=True)[0]
        for each in (latents, other)
    )
    assert one is not None
    assert two is not None
    differs = (one - two).abs().amax((0, 1, 3, 4)) > 1e-6
    # Latent 4 is first seen in the second window, which begins to fade in at frame 9.
    assert not differs[:10].any()
    assert differs[10:].all()


@pytest.mark.parametrize(("frames", "later"), [(32, False), (0, False), (25, True)])
@torch.no_grad()
def test_frames_that_fill_no_latent_are_refused(
    causal: StreamingVae, frames: int, later: bool
) -> None:
    state = ConvState()
    if later:
        _, state = causal.encode(drawn(1, 3, 9, 64, 64), state)
    with pytest.raises(InvariantError, match="1 \\+ 8k"):
        causal.encode(drawn(1, 3, frames, 64, 64), state)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"timestep_conditioning": True}, "conditioned"),
        ({"encoder_causal": False}, "looks ahead"),
        ({"downsample_type": ("conv", "temporal", "spatiotemporal", "spatiotemporal")}, "down"),
    ],
)
def test_an_autoencoder_of_another_build_is_refused(changed: dict[str, Any], why: str) -> None:
    vae = tiny.vae(torch.Generator().manual_seed(0))
    vae.register_to_config(**changed)
    with pytest.raises(PluginError, match=why):
        StreamingVae(vae)


def test_a_session_out_of_a_batch_keeps_no_memory_of_the_others() -> None:
    state = ConvState((torch.zeros(4, 8, 2, 4, 4), torch.zeros(4, 3, 2, 4, 4)))
    for each in state.split(4):
        assert [tensor.untyped_storage().nbytes() for tensor in each.past] == [
            tensor.nbytes // 4 for tensor in state.past
        ]
