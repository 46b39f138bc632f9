"""The benchmark of SANA-Streaming works before there is a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_actor.models.sana_streaming import sampler, tiny
from tests.bench.sana import __main__ as command
from tests.bench.sana import rows, stages, store, table
from tests.bench.sana.flops import counted
from tests.bench.sana.models import empty, size_of
from tests.bench.sana.profiling import profiled
from tests.bench.sana.stages import Bench
from tests.bench.sana.store import Store
from tests.bench.sana.upstream import Upstream

pytestmark = pytest.mark.unit

torch.set_num_threads(1)


def drawn(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random)


@torch.no_grad()
def test_the_baseline_is_the_same_arithmetic() -> None:
    random = torch.Generator().manual_seed(1)
    model, grid = tiny.transformer(random), (4, 6)
    text, mask = drawn(random, 2, 12, tiny.CAPTION), torch.ones(2, 12)
    mask[:, 9:] = 0
    theirs, state = Upstream(model, grid), model.begin(2, grid)
    for frames in (5, 3, 3, 3):
        noise, source = (drawn(random, 2, tiny.LATENTS, frames, *grid) for _ in range(2))
        context = model.context(state, text, mask, frames, grid)
        latents = sampler.denoise(model, noise, source, context)
        torch.testing.assert_close(
            theirs.edit(noise, source, text, mask), latents, atol=2e-5, rtol=1e-4
        )
        theirs.commit(latents, source, text, mask)
        state = sampler.commit(model, latents, source, context, state)


def run(
    monkeypatch: pytest.MonkeyPatch, figures: Path, *arguments: str
) -> tuple[int, dict[str, dict[str, object]]]:
    monkeypatch.setattr(stages, "LEAST", 1)
    monkeypatch.setattr(store, "code", lambda: "code")
    told = ["--device", "cpu", "--seconds", "0", "--json", str(figures), *arguments]
    status = command.main(told)
    everything = json.loads(figures.read_text()) if figures.exists() else {}
    return status, everything.get("code/cpu/tiny", {})


def test_rows_are_measured_once_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    status, made = run(monkeypatch, figures, "--size", "tiny", "--only", "eager")
    assert status == 0
    assert set(made) == {"eager"}
    assert made["eager"]["chunk"]["p50_ms"] > 0  # type: ignore[index]
    assert set(made["eager"]["stages"]) == set(stages.STAGES)  # type: ignore[call-overload]
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "| `eager` |" in each]
    assert line.count(" ms") == 5

    def fail(_: Bench) -> dict[str, object]:
        raise RuntimeError("not again")

    monkeypatch.setitem(rows.ROWS, "eager", fail)
    once_more = ("--size", "tiny", "--only", "eager", "--only", "machine")
    status, made = run(monkeypatch, figures, *once_more, "--budget", "-1")
    assert status == 0
    assert set(made) == {"eager"}, "no time left for the other"
    status, made = run(monkeypatch, figures, *once_more)
    assert status == 0
    assert set(made) == {"eager", "machine"}
    status, made = run(monkeypatch, figures, *once_more, "--again")
    assert status == 1, "one that fails is told"
    assert set(made) == {"eager", "machine"}, "and leaves what was there"


def test_what_needs_a_gpu_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only = [word for name in ("graphs", "fp8", "overlap of 2") for word in ("--only", name)]
    status, made = run(monkeypatch, tmp_path / "figures.json", "--size", "tiny", *only)
    assert (status, made) == (0, {})
    status, made = run(monkeypatch, tmp_path / "figures.json")
    assert (status, made) == (0, {})
    told = capsys.readouterr()
    assert "no GPU" in told.err
    assert "No GPU: nothing was measured" in told.out
    assert "ms" not in told.out.replace("terms", "")


def test_rows_of_other_code_do_not_count(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    Store(figures, "H200", "2b", key="one").add("eager", {"chunk": 1})
    assert Store(figures, "H200", "2b", key="one").rows["eager"]["chunk"] == 1
    for other in (("H200", "2b", "two"), ("H100", "2b", "one"), ("H200", "tiny", "one")):
        assert Store(figures, *other[:2], key=other[2]).rows == {}
    assert len(store.code()) == 12


def test_a_parked_session_is_measured_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "LEAST", 1)
    bench = Bench(size_of("tiny"), torch.device("cpu"), torch.float32, 0.0)
    made = rows.parking(bench)
    assert made["session_bytes"] > 100_000
    assert made["park"]["windows"] == made["restore"]["windows"] == 1


@pytest.mark.slow
def test_operators_of_every_stage_are_told() -> None:
    bench = Bench(size_of("tiny"), torch.device("cpu"), torch.float32, 0.0)
    text = "\n".join(profiled(bench, "eager", {"machine": {"matrix_tflops": 1.0}}))
    assert [name for name in stages.STAGES if f"#### {name}: " in text] == [*stages.STAGES]
    assert "aten::addmm" in text
    assert "%)" in text


@pytest.mark.parametrize(
    ("chunk_s", "rate", "count"),
    [(0.28, 24, 3), (0.2834, 24, 2), (0.33, 24, 2), (0.33, 16, 3), (0.425, 24, 2), (0.9, 24, 0)],
)
def test_sessions_are_those_below_the_ceiling(chunk_s: float, rate: int, count: int) -> None:
    assert table.sessions(chunk_s, rate) == count


def test_the_table_tells_gains_rates_and_what_was_missed() -> None:
    def row(chunk_ms: float, sessions: int = 1) -> dict[str, object]:
        shares = zip(stages.STAGES, (0.4, 0.32, 0.2, 0.08), strict=True)
        each = {name: {"p50_ms": chunk_ms * share} for name, share in shares}
        chunk = {"p50_ms": chunk_ms, "p99_ms": 2 * chunk_ms}
        return {"chunk": chunk, "stages": each, "sessions": sessions, "peak_bytes": 3e10}

    measured = {
        "machine": {"name": "H200", "torch": "2", "matrix_tflops": 800.0},
        "operations": {
            "flops": {"encode": 63e12, "generate": 46e12, "decode": 27e12, "commit": 12e12}
        },
        "bf16": row(400.0),
        "fp8": row(250.0),
        "batch of 2": row(640.0, 2),
    }
    text = "\n".join(table.lines(measured))
    assert "| 160.0 ms | 128.0 ms | 80.0 ms | 32.0 ms | 400.0 ms (800.0) | 2.50 | 2 / 3 |" in text
    assert "| bf16 | 394 (49%) | 362 (45%) | 338 (42%) |" in text
    assert "| batch of 2 | 640.0 ms | 1.25 | 30.0 GB |" in text
    assert table.missed(measured) == ["bf16: 0.400 s, to be 0.33 s"]


@pytest.mark.slow
def test_operations_are_those_of_the_paper() -> None:
    """At 1280x704, per chunk of 24 frames: 63, 55.5 and 27 TFLOP."""
    made = counted(size_of("2b"))
    assert made["encode"] == pytest.approx(63.0e12, rel=0.01)
    assert made["generate"] + made["commit"] == pytest.approx(55.5e12, rel=0.05)
    assert made["decode"] == pytest.approx(27.1e12, rel=0.01)
    _, vae = empty(size_of("2b"))
    sizes = [sum(each.numel() for each in part.parameters()) for part in (vae.encoder, vae.decoder)]
    assert [round(size / 1e6) for size in sizes] == [694, 528]
