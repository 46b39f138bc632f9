"""Tiny folders of weights, made once a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_actor.models.image_to_image import tiny
from model_actor.models.image_to_image.model import ImageToImageModel

# Threads would wait for one another longer than they compute.
torch.set_num_threads(1)

SIZE = "48x32"
Loaded = Callable[..., ImageToImageModel]


@pytest.fixture(scope="session")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as of sd-turbo, with a tiny autoencoder; not to be changed."""
    folder = tmp_path_factory.mktemp("weights") / "turbo"
    folder.mkdir()
    tiny.make(folder)
    return folder


@pytest.fixture(scope="session")
def consistency(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as of a latent consistency model; not to be changed."""
    folder = tmp_path_factory.mktemp("weights") / "consistency"
    folder.mkdir()
    tiny.make(folder, scheduler="lcm", autoencoder="kl", guided=True)
    return folder


@pytest.fixture
def copy(turbo: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be broken."""
    return shutil.copytree(turbo, tmp_path / "copy")


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """Loads a model with small pictures; the same one again for the same options."""
    known: dict[tuple[tuple[str, str], ...], ImageToImageModel] = {}

    def load(weights: Path, **options: str) -> ImageToImageModel:
        given = {"size": SIZE, "device": "cpu", **options, "weights": str(weights)}
        key = tuple(sorted(given.items()))
        if key not in known:
            known[key] = ImageToImageModel()
            known[key].configure(given)
            known[key].load()
        return known[key]

    return load
