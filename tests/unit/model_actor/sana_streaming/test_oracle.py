"""The oracle: what upstream's own code computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.oracle.__main__ import main
from tests.unit.model_actor.sana_streaming.conftest import ORACLE

pytestmark = pytest.mark.unit


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The oracle, to be changed."""
    return Path(shutil.copytree(ORACLE, tmp_path / "oracle"))


def test_our_model_computes_what_upstreams_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "outcome.json"
    status = main([str(ORACLE), "--json", str(out)])
    assert status == 0, capsys.readouterr().out
    outcome = json.loads(out.read_text())
    assert outcome["passed"]
    assert [(part["name"], part["absent"]) for part in outcome["parts"]] == [
        ("dit", []),
        ("vae", []),
        ("text", []),
    ]
    checks = {check["name"]: check for part in outcome["parts"] for check in part["checks"]}
    assert {"latents_out", "latent_normalised", "decode_causal_half_res", "selected"} <= set(checks)
    assert checks["latents_out"]["error"] <= 5e-6
    assert checks["latents_out_prompt0, in a batch"]["error"] <= 5e-6


@pytest.mark.parametrize(
    ("file", "tensor", "by"),
    [
        ("dit_io", "cache.chunk1.block0.slot0", 1e-3),
        ("vae_io", "decode_windowed_half_res", 1e-2),
        ("text_io", "selected", 1e-3),
    ],
)
def test_a_difference_is_found(
    copy: Path, file: str, tensor: str, by: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / f"{file}.safetensors"
    tensors = load_file(path)
    tensors[tensor].view(-1)[0] += by
    save_file(tensors, path)
    for other in {"dit", "vae", "text"} - {file.removesuffix("_io")}:
        (copy / f"{other}_io.safetensors").unlink()
    assert main([str(copy)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAIL " in line]
    assert len(failed) == 1
    assert tensor in failed[0]


def test_absent_parts_are_said_to_be_absent(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dit_io", "vae_weights", "text_io"):
        (copy / f"{name}.safetensors").unlink()
    # Nothing compared is no success.
    assert main([str(copy)]) == 1
    printed = capsys.readouterr().out
    assert all(f"{name:<5} absent {name}" in printed for name in ("dit", "vae", "text"))
    shutil.copy(ORACLE / "text_io.safetensors", copy)
    assert main([str(copy)]) == 0


def test_a_part_that_does_not_load_fails_and_the_others_are_checked(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(copy / "dit_weights.safetensors")
    save_file({**tensors, "more": torch.zeros(1)}, copy / "dit_weights.safetensors")
    (copy / "vae_io.safetensors").unlink()
    assert main([str(copy)]) == 1
    printed = capsys.readouterr().out
    assert "dit   FAULT  CheckpointError" in printed
    assert "text  ok   selected " in printed


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
