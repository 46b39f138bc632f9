"""Real encoders, judged by real decoders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from model_actor.media.codec import Codec, is_keyframe
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from model_actor.media.encoding.x264 import X264
from model_actor.media.fitter import Fitter, describe
from scheduler.core.errors import InvariantError
from tests.media import clips

pytestmark = pytest.mark.media

WIDTH, HEIGHT, RATE = 640, 352, 24
REAL_CLIP = Path(__file__).resolve().parents[3] / "shared/fixtures/clips/people-24fps-720p.mp4"
CODECS = list(Codec)


def encoder(codec: Codec, bitrate: int = 1_000_000) -> VideoEncoder:
    return VideoEncoder(EncoderSettings(codec, WIDTH, HEIGHT, RATE, bitrate))


def noisy(count: int) -> list[npt.NDArray[np.uint8]]:
    """Moving pictures that cost bits."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[0 : HEIGHT * 3 // 2, 0:WIDTH]
    ground = 128 + 40 * np.sin(x / 9) + 30 * np.cos(y / 7 + x / 23)
    return [
        np.clip(
            np.roll(ground, 3 * index, axis=1) + random.integers(-3, 4, ground.shape), 0, 255
        ).astype(np.uint8)
        for index in range(count)
    ]


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


def as_bt709(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Returns a decoded frame in the model's colours, by the decode side's own path."""
    fitted = Fitter(frame.width, frame.height).fit(frame, describe(frame))
    return fitted.to_ndarray()


@pytest.mark.parametrize("codec", CODECS)
def test_colours_come_back_as_they_went(codec: Codec) -> None:
    flat = np.full((HEIGHT * 3 // 2, WIDTH), 100, np.uint8)
    flat[HEIGHT : HEIGHT * 5 // 4], flat[HEIGHT * 5 // 4 :] = 90, 170
    enc, decoder = encoder(codec), av.CodecContext.create(codec.value, "r")
    for _ in range(12):
        (frame,) = decoder.decode(av.Packet(enc.encode(flat).data))
    assert np.abs(as_bt709(frame).astype(int) - flat).max() <= 3
    if codec is Codec.VP8:
        assert abs(int(frame.to_ndarray()[0, 0]) - 100) > 3, "BT.601 on the wire"


@pytest.mark.parametrize("codec", CODECS)
def test_one_packet_a_frame_decodes_to_one_picture_at_once(codec: Codec) -> None:
    enc, decoder = encoder(codec), av.CodecContext.create(codec.value, "r")
    for index in range(30):
        picture = clips.numbered(index, WIDTH, HEIGHT).reshape(-1, WIDTH)
        encoded = enc.encode(picture)
        assert encoded.keyframe == (index == 0) == is_keyframe(codec, encoded.data)
        (frame,) = decoder.decode(av.Packet(encoded.data))
        assert clips.number_of(frame.to_ndarray()) == index
        assert psnr(as_bt709(frame), picture) > 30


@pytest.mark.parametrize("codec", CODECS)
def test_a_keyframe_on_request_is_decodable_alone(codec: Codec) -> None:
    enc = encoder(codec)
    for index in range(20):
        encoded = enc.encode(clips.numbered(index, WIDTH, HEIGHT).reshape(-1, WIDTH))
    encoded = enc.encode(clips.numbered(20, WIDTH, HEIGHT).reshape(-1, WIDTH), keyframe=True)
    assert encoded.keyframe
    assert is_keyframe(codec, encoded.data)
    fresh = av.CodecContext.create(codec.value, "r")
    (frame,) = fresh.decode(av.Packet(encoded.data))
    assert clips.number_of(frame.to_ndarray()) == 20


def test_h264_is_what_browsers_take() -> None:
    data = encoder(Codec.H264).encode(noisy(1)[0]).data
    sps = data.index(b"\x00\x00\x01\x67") + 4
    profile, constraints, level = data[sps : sps + 3]
    assert profile == 66, "baseline"
    assert constraints & 0x40, "constrained baseline"
    assert level <= 41
    assert b"\x00\x00\x01\x68" in data, "picture parameters in every keyframe"
    (frame,) = av.CodecContext.create("h264", "r").decode(av.Packet(data))
    assert (frame.colorspace, frame.color_range) == (1, 1), "BT.709, limited"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("target", [450_000, 1_600_000])
def test_bitrate_changes_in_place_without_a_keyframe(codec: Codec, target: int) -> None:
    frames, enc = noisy(96), encoder(codec)
    before = [enc.encode(frame) for frame in frames[:48]]
    enc.set_bitrate(target)
    after = [enc.encode(frame) for frame in frames[48:]]
    assert not any(encoded.keyframe for encoded in before[1:] + after)
    rate = sum(len(encoded.data) for encoded in after[24:]) * 8
    assert 0.9 < rate / target < 1.1


@pytest.mark.parametrize("codec", CODECS)
def test_a_far_change_begins_a_new_stream_with_a_keyframe(codec: Codec) -> None:
    frames, enc = noisy(40), encoder(codec, 300_000)
    for frame in frames[:10]:
        enc.encode(frame)
    enc.set_bitrate(6_000_000)
    after = [enc.encode(frame) for frame in frames[10:]]
    assert [encoded.keyframe for encoded in after] == [True] + [False] * 29
    rate = sum(len(encoded.data) for encoded in after[-24:]) * 8
    assert rate > 1_500_000


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [1_000_000, 1_600_000])
def test_a_keyframe_goes_out_in_a_quarter_of_a_second_and_fits_the_history(
    codec: Codec, rate: int
) -> None:
    frames, enc = noisy(72), encoder(codec, 1_000_000)
    enc.set_bitrate(rate)
    made = [enc.encode(f, keyframe=i in (30, 60)) for i, f in enumerate(frames)]
    sizes = [len(each.data) for each in made if each.keyframe]
    assert len(sizes) == 3
    assert max(sizes) * 8 / rate <= 0.25
    assert max(sizes) / 1_100 < 512, "packets of the history"


@pytest.mark.parametrize("codec", CODECS)
def test_the_low_rung_is_the_same_picture_at_half_the_size(codec: Codec) -> None:
    enc = VideoEncoder(EncoderSettings(codec, WIDTH, HEIGHT, RATE, 300_000, shrink=2))
    decoder = av.CodecContext.create(codec.value, "r")
    picture = clips.numbered(5, WIDTH, HEIGHT).reshape(-1, WIDTH)
    for _ in range(12):
        (frame,) = decoder.decode(av.Packet(enc.encode(picture).data))
    assert (frame.width, frame.height) == (WIDTH // 2, HEIGHT // 2)
    small = as_bt709(frame)[: HEIGHT // 2]
    expected = picture[:HEIGHT].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    assert psnr(small, expected.astype(np.uint8)) > 30


def test_a_library_that_cannot_be_opened_is_stood_in_for_by_the_next() -> None:
    absent = replace(X264, name="h264_nvenc")
    settings = EncoderSettings(Codec.H264, WIDTH, HEIGHT, RATE, 300_000)
    flat = np.full((HEIGHT * 3 // 2, WIDTH), 100, np.uint8)
    enc = VideoEncoder(settings, {Codec.H264: (absent, X264)})
    assert enc.encode(flat).keyframe
    with pytest.raises((av.FFmpegError, OSError, ValueError)):
        VideoEncoder(settings, {Codec.H264: (absent,)})


@pytest.mark.parametrize("codec", CODECS)
def test_frames_may_be_read_only_and_views(codec: Codec) -> None:
    block = np.stack([clips.numbered(n, WIDTH, HEIGHT).reshape(-1, WIDTH) for n in range(2)])
    block.flags.writeable = False
    enc = encoder(codec)
    assert enc.encode(block[0]).keyframe
    assert not enc.encode(block[1]).keyframe


def test_wrong_shapes_and_settings_are_our_mistake() -> None:
    enc = encoder(Codec.H264)
    with pytest.raises(InvariantError):
        enc.encode(np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(InvariantError):
        enc.encode(np.zeros((WIDTH, HEIGHT * 3 // 2), np.uint8).T)
    with pytest.raises(InvariantError):
        enc.set_bitrate(0)
    with pytest.raises(InvariantError):
        VideoEncoder(EncoderSettings(Codec.VP8, 321, 200, 24, 1_000_000))
    enc.close()
    enc.close()
    with pytest.raises(InvariantError):
        enc.encode(np.zeros((HEIGHT * 3 // 2, WIDTH), np.uint8))


@pytest.mark.parametrize("codec", CODECS)
def test_a_keyframe_comes_in_the_end_even_if_nobody_asks(codec: Codec) -> None:
    enc = VideoEncoder(EncoderSettings(codec, 64, 64, 4.0, 100_000))
    frame = np.full((96, 64), 100, np.uint8)
    keyframes = [index for index in range(90) if enc.encode(frame).keyframe]
    assert keyframes[0] == 0
    assert len(keyframes) > 1
    assert keyframes[1] <= 41


@pytest.mark.skipif(not REAL_CLIP.exists(), reason="the shared clip is not on this machine")
@pytest.mark.parametrize("codec", CODECS)
def test_a_real_scene_looks_good_at_its_rate(codec: Codec) -> None:
    enc = VideoEncoder(EncoderSettings(codec, 1280, 704, RATE, 2_500_000))
    decoder = av.CodecContext.create(codec.value, "r")
    quality, size, frames = [], 0, 0
    with av.open(str(REAL_CLIP)) as container:
        for frame in container.decode(video=0):
            source = frame.reformat(1280, 704).to_ndarray()
            data = enc.encode(source).data
            (decoded,) = decoder.decode(av.Packet(data))
            quality.append(psnr(as_bt709(decoded), source))
            size, frames = size + len(data), frames + 1
            if frames == 72:
                break
    assert np.mean(quality[24:]) > 38
    assert size * 8 / 3 < 2_500_000 * 1.3
