"""The plugin keeps to what every model plugin must keep to; its pixels are those of BT.709."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model_actor.conformance import check_all
from model_actor.models.sana_streaming import pixels
from model_actor.models.sana_streaming.model import SanaStreamingModel
from model_actor.models.sana_streaming.weights_command import weights
from scheduler.core.errors import PluginError

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of tiny random weights, as the command makes it."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    result = CliRunner().invoke(weights, ["tiny", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def test_it_keeps_to_what_every_model_must(tiny: Path) -> None:
    model = SanaStreamingModel()
    options = {"size": "128x64", "threads": "1", "device": "cpu", "max_batch": "2"}
    model.configure({"weights": str(tiny), **options})
    model.load()
    check_all(model)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "needs its weights"),
        ({"colour": "blue"}, "no option 'colour'"),
        ({"size": "100x100"}, "multiples of 64"),
        ({"size": "big"}, "WIDTHxHEIGHT"),
        ({"threads": "many"}, "whole number"),
        ({"device": "abacus"}, "device is cuda"),
        ({"dtype": "int4"}, "dtype is one of"),
    ],
)
def test_what_it_cannot_use_is_told(tiny: Path, options: dict[str, str], why: str) -> None:
    model = SanaStreamingModel()
    given = {"weights": str(tiny), **options} if options else {}

    def begin() -> None:
        model.configure(given)
        model.load()

    with pytest.raises(PluginError, match=why):
        begin()


def test_a_folder_that_is_no_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        SanaStreamingModel().configure({"weights": str(tmp_path)})


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [
        ((1.0, -1.0, -1.0), (63, 102, 240)),
        ((-1.0, 1.0, -1.0), (173, 42, 26)),
        ((-1.0, -1.0, 1.0), (32, 240, 118)),
        ((1.0, 1.0, 1.0), (235, 128, 128)),
        ((-1.0, -1.0, -1.0), (16, 128, 128)),
    ],
)
def test_colours_are_those_of_bt_709(rgb: tuple[float, ...], yuv: tuple[int, ...]) -> None:
    height, width = 8, 16
    plain = torch.tensor(rgb)[:, None, None, None].expand(3, 1, height, width)
    i420 = pixels.to_i420(plain)
    assert (i420[0, 0, 0], i420[0, height, 0], i420[0, height + height // 4, 0]) == yuv
    assert torch.allclose(pixels.from_i420(i420), plain, atol=0.03)


def test_a_smooth_picture_survives_there_and_back() -> None:
    ramp = torch.linspace(-0.8, 0.8, 64).expand(3, 2, 32, 64)
    back = pixels.from_i420(pixels.to_i420(ramp))
    assert float((back - ramp).abs().max()) < 0.02
    assert pixels.to_i420(ramp).numpy().dtype == np.uint8
