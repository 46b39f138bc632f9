"""Which libraries encode: the probe, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from model_actor.media.codec import Codec
from model_actor.media.encoding import choice
from model_actor.media.encoding.library import Library, Steering
from model_actor.media.encoding.nvenc import NVENC
from model_actor.media.encoding.x264 import X264
from model_actor.settings import ActorSettings
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit


def works(_: Library) -> str:
    return ""


def lacks(_: Library) -> str:
    return "there is no such device"


def never(_: Library) -> str:
    raise AssertionError("software needs no probe")


def test_an_encoder_that_libav_does_not_list_is_missing() -> None:
    assert "without h264_elsewhere" in choice.probe(replace(X264, name="h264_elsewhere"))


def test_an_encoder_that_is_listed_and_cannot_encode_is_missing() -> None:
    def refused(*_: object) -> dict[str, str]:
        return {"preset": "no such preset"}

    assert "libx264 cannot encode on this machine" in choice.probe(replace(X264, options=refused))


def test_an_encoder_that_delays_frames_is_missing() -> None:
    def patient(*_: object) -> dict[str, str]:
        return {"preset": "medium"}

    assert choice.probe(replace(X264, options=patient)) == "libx264 delays frames"


def test_an_encoder_that_encodes_lacks_nothing() -> None:
    assert choice.probe(X264) == ""


def test_auto_takes_nvenc_where_it_works_and_the_cpu_behind_it() -> None:
    chosen = choice.choose("auto", works)
    assert chosen[Codec.H264] == (NVENC, X264)
    assert chosen[Codec.VP8] == choice.SOFTWARE[Codec.VP8]


def test_auto_takes_the_cpu_elsewhere_and_says_once_what_is_missing() -> None:
    with capture_logs() as logs:
        assert choice.choose("auto", lacks) == choice.SOFTWARE
    (line,) = logs
    assert (line["event"], line["h264"], line["lacks"]) == (
        "encoder.chosen",
        "libx264",
        "there is no such device",
    )


def test_software_is_software_without_asking() -> None:
    assert choice.choose("software", never) == choice.SOFTWARE


def test_nvenc_demanded_is_nvenc_or_a_loud_error_that_says_what_to_do() -> None:
    assert choice.choose("nvenc", works)[Codec.H264] == (NVENC,)
    with pytest.raises(ConfigurationError) as error:
        choice.choose("nvenc", lacks)
    for words in ("--encoder nvenc", "no such device", "libnvidia-encode", "--encoder auto"):
        assert words in str(error.value)


def test_an_actor_knows_three_settings() -> None:
    spec = {
        "actor_id": "a1",
        "placement_address": "unix:/p",
        "lease_secret": "s",
        "model": "simulated",
    }
    assert ActorSettings.from_spec(spec).encoder == "auto"
    assert ActorSettings.from_spec({**spec, "encoder": "nvenc"}).encoder == "nvenc"
    with pytest.raises(ConfigurationError, match="auto, software, nvenc"):
        ActorSettings.from_spec({**spec, "encoder": "fast"})


def test_nvenc_makes_no_frame_wait() -> None:
    settings = choice.EncoderSettings(Codec.H264, 1280, 704, 24.0, 2_500_000)
    options = NVENC.options(settings, settings.bitrate)
    assert (options["bf"], options["delay"], options["rc"]) == ("0", "0", "cbr")
    assert options["forced-idr"] == "1"
    assert 0.125 <= int(options["bufsize"]) / settings.bitrate <= 0.25
    assert NVENC.steering is Steering.BIT_RATE
