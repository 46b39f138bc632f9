"""Users of the load harness on networks of their own, against a running service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.scenario.scenario import Scenario, parse
from sdk_adapters.harness.networks.turn_server import Relay
from sdk_adapters.harness.report.model import LoadReport, Row
from sdk_adapters.harness.running import Setting, measure
from sdk_adapters.harness.stack import StackOptions, own_stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DELAY_MS = 150.0


def scenario(seed: int, duration: int, connected: int, **load: Any) -> Scenario:
    """Users who play a clip all the time."""
    document = {
        "name": "far-away",
        "seed": seed,
        "duration": duration,
        "warm_up": 0,
        "workload": {
            "arrivals": {"kind": "level", "connected": connected, "over": 1},
            "session": {"kind": "fixed", "value": "1h"},
            "think": {"kind": "fixed", "value": 0.5},
            "play": {"kind": "fixed", "value": "1h"},
            "pause": {"kind": "fixed", "value": 1},
            "live_share": 0,
            "prompts_per_minute": 0,
        },
        "pool": {"gpus": 1, "model": {"chunk_ms": 50}},
        "load": {
            "decode": 0,
            "clip": {"seconds": 30, "width": 160, "height": 88},
            "processes": 1,
            **load,
        },
    }
    return parse(document, "here")


def rows(report: LoadReport, network: str) -> list[Row]:
    """Returns the sessions of a network."""
    return [each for each in report.sessions.rows if each.network == network]


async def measured(asked: Scenario, folder: Path, turn: str = "") -> LoadReport:
    """Puts a scenario on a service of its own."""
    async with own_stack(StackOptions(asked.spec), folder) as stack:
        target = replace(stack.target, turn=turn)
        report = await measure(asked, Setting(target, stack.service))
    assert all(each.counts["frames_shown"] > 0 for each in report.sessions.rows), report.failures
    return report


async def test_a_users_network_is_felt_by_that_user_on_either_wire(tmp_path: Path) -> None:
    networks = [
        {"name": "near", "share": 1},
        {"name": "far", "share": 1, "delay_ms": DELAY_MS},
        {"name": "office", "share": 1, "turn_only": True},
    ]
    asked = scenario(6, 12, 5, wires={"grpc": 1, "webrtc": 1}, networks=networks)
    report = await measured(asked, tmp_path)
    assert {each.wire for each in rows(report, "far")} == {"grpc", "webrtc"}
    for each in rows(report, "far"):
        assert each.values["command_ack"].min >= 2 * DELAY_MS
        assert each.values["join"].min >= 4 * DELAY_MS
        parts = ("join_gpu_wait", "join_request")
        if each.wire == "webrtc":
            parts = (*parts, "join_ice", "join_dtls")
            # They go through the network, too: a round trip at least.
            assert each.values["join_ice"].min >= 2 * DELAY_MS
            assert each.values["join_dtls"].min >= 2 * DELAY_MS
        # What is missing is how late it came, and drawing a camera.
        assert each.values["join"].mean >= sum(each.values[part].mean for part in parts) - 1
    assert min(each.values["command_ack"].min for each in rows(report, "near")) < 2 * DELAY_MS
    # It needs a server that nobody named: its users came without it, and the report says so.
    assert rows(report, "office")
    assert "--turn" in report.not_measured["network office"]


async def test_media_take_the_turn_server_where_nothing_else_may_be_used(tmp_path: Path) -> None:
    networks = [
        {"name": "office", "share": 1, "turn_only": True},
        {"name": "far-office", "share": 1, "turn_only": True, "delay_ms": DELAY_MS},
    ]
    async with Relay.running() as server:
        asked = scenario(4, 8, 2, wires={"webrtc": 1}, networks=networks)
        report = await measured(asked, tmp_path, turn=server.url)
    assert {each.network for each in report.sessions.rows} == {"office", "far-office"}
    assert server.back >= sum(each.counts["frames_shown"] for each in report.sessions.rows)
    assert server.out > 0
    (far,) = rows(report, "far-office")
    assert far.values["join_ice"].min >= 2 * DELAY_MS
    assert not any(name.startswith("network") for name in report.not_measured)
