"""A service of one's own: what it is started with, and what it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler.scenario import ConfigurationError
from scheduler.scenario.pool import ModelCosts, PoolSpec
from sdk_adapters.harness.ports import free_port
from sdk_adapters.harness.stack import MOST_ACTORS, StackOptions

pytestmark = pytest.mark.unit


def pool(**changes: Any) -> PoolSpec:
    """A pool of a scenario."""
    model = ModelCosts(chunk_ms=120, chunk_jitter_ms=2, session_gb=2, weights_gb=13)
    return PoolSpec(**{"gpus": 3, "memory_gb": 33, "model": model, **changes})


def option(words: list[str], name: str) -> str:
    """Returns the value of an option."""
    return words[words.index(name) + 1]


def test_the_pool_of_the_scenario_is_what_runs() -> None:
    options = StackOptions(pool(policy="spread"))
    words = options.head()
    assert option(words, "--actors") == "3"
    assert option(words, "--policy") == "spread"
    assert option(words, "--backend") == "in-process"
    assert options.model() == {
        "chunk_ms": "120",
        "jitter_ms": "3.4641",
        "resident_slots": "10",
        "size": "160x88",
        "video": "canned",
    }


def test_what_is_to_be_killed_runs_in_processes_of_its_own() -> None:
    assert option(StackOptions(pool(), killable=True).head(), "--backend") == "ray"


def test_rules_that_a_service_can_be_told_are_told() -> None:
    words = StackOptions(pool(rules={"park_after": 90, "reconnect_window": 5})).head()
    assert option(words, "--park-after") == "90s"
    assert option(words, "--reconnect-window") == "5s"


def test_rules_that_it_cannot_be_told_are_confessed() -> None:
    notes = StackOptions(pool(rules={"queue_limit": 9, "park_after": 90})).notes()
    assert notes[0] == "Own stack: simulated, canned video, 3 actors (in-process)."
    assert "queue_limit" in notes[1]
    assert "park_after" not in notes[1]
    assert len(StackOptions(pool()).notes()) == 1


def test_a_pool_that_fits_no_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--target"):
        StackOptions(pool(gpus=MOST_ACTORS + 1)).head()
    assert option(StackOptions(pool(gpus=1000), actors=4).head(), "--actors") == "4"


def test_a_free_port_is_none_that_a_client_would_get() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= free_port() < first for _ in range(20))
