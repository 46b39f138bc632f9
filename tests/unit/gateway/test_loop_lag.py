"""How late a loop is, and how many files a process may open."""

from __future__ import annotations

import asyncio
import resource

import pytest
from prometheus_client.registry import REGISTRY

from gateway import loop_lag, open_files

pytestmark = pytest.mark.unit


def measured() -> float:
    return REGISTRY.get_sample_value("sana_gateway_loop_lag_seconds_count") or 0.0


async def test_the_lag_is_measured_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "PERIOD_S", 0.0)
    before = measured()
    task = asyncio.create_task(loop_lag.watch_lag())
    while measured() < before + 3:  # noqa: ASYNC110 - every turn of the loop is measured
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), (open_files.WANTED, resource.RLIM_INFINITY)),
        ((1024, 10**6), (open_files.WANTED, 10**6)),
        ((100_000, 10**6), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
        ((4096, 4096), None),
    ],
)
def test_the_limit_of_open_files_is_raised_and_never_lowered(
    limits: tuple[int, int], raised: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: set_to.append(wanted))
    open_files.allow_many_files()
    assert set_to == ([] if raised is None else [raised])
