"""Tiny models and the oracle's tensors, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_actor.models.sana_streaming import bundle, bundle_files, converting, tiny
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from tests.required import ROOT

ORACLE = ROOT / "tests/fixtures/sana-oracle"
GRID = (4, 6)

# Threads would wait for one another longer than they compute.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def io() -> dict[str, Tensor]:
    """What the oracle's transformer was given and answered."""
    return load_file(ORACLE / "dit_io.safetensors")


@pytest.fixture(scope="session")
def model() -> SanaStreamingTransformer:
    """The oracle's transformer."""
    return converting.read_transformer(ORACLE / "dit_weights.safetensors", {"num_heads": 2})[0]


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    with bundle_files.making(folder, force=False) as fresh:
        tiny.make(fresh, grid=GRID)
        bundle_files.seal(fresh)
    return folder


@pytest.fixture(scope="session")
def parts(bundle_folder: Path) -> bundle.Parts:
    """The tiny bundle, loaded."""
    return bundle.load(bundle_folder)
