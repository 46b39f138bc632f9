"""Settings that are read again while a gateway runs."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.limits.calls import CallRates
from gateway.reloading import RELOADED, Reloading, changed
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError, LimitError
from scheduler.process.config import describe, load_settings
from scheduler.process.logging import configure_logging, set_level

pytestmark = pytest.mark.unit


def settings(**told: object) -> GatewaySettings:
    return load_settings(GatewaySettings, overrides=told)


class Gateway:
    """Remembers what it took up."""

    def __init__(self) -> None:
        self.taken: list[GatewaySettings] = []

    def take_up(self, settings: GatewaySettings) -> None:
        self.taken.append(settings)


def test_what_is_reloaded_is_taken_up_and_the_rest_is_named() -> None:
    before = settings(limits={"max_peers": 3})
    told = settings(
        limits={"max_peers": 7},
        http_port=1,
        log_level="debug",
        rates={"create": "off"},
        ice_servers=["stun:192.0.2.1:3478"],
        recording={"enabled": True, "kept_s": 60.0},
    )
    change = changed(before, told)
    assert set(change.taken_up) == {
        *("limits.max_peers", "log_level", "rates.create", "ice_servers", "recording.kept_s")
    }
    assert set(change.left) == {"http_port", "recording.enabled"}
    assert change.settings.ice_servers == ("stun:192.0.2.1:3478",)
    assert change.settings.recording.kept_s == 60.0
    assert not change.settings.recording.enabled
    assert change.settings.limits.max_peers == 7
    assert change.settings.http_port == before.http_port
    assert change.settings.rates.create == "off"


def test_nothing_new_changes_nothing() -> None:
    change = changed(settings(), settings())
    assert (change.taken_up, change.left, change.settings) == ((), (), settings())


def test_what_is_reloaded_exists() -> None:
    names = {setting.key.partition(".")[0] for setting in describe(GatewaySettings)}
    assert names >= set(RELOADED)


async def test_settings_that_became_wrong_change_nothing_but_the_log() -> None:
    told: list[Any] = [ConfigurationError("unknown setting nonsense"), settings(log_level="debug")]

    def read() -> GatewaySettings:
        match told.pop(0):
            case ConfigurationError() as error:
                raise error
            case read:
                return read  # type: ignore[no-any-return]

    gateway = Gateway()
    reloading = Reloading(settings(), read, gateway)
    with capture_logs() as log:
        await reloading.reload()
    assert [line["event"] for line in log] == ["settings.kept"]
    assert gateway.taken == []
    await reloading.reload()
    assert gateway.taken == [settings(log_level="debug")]


async def test_a_setting_that_needs_a_restart_is_named_each_time_and_kept_out() -> None:
    gateway = Gateway()
    reloading = Reloading(settings(), lambda: settings(grpc_port=5), gateway)
    for _ in range(2):
        with capture_logs() as log:
            await reloading.reload()
        assert log[-1]["event"] == "settings.need_restart"
        assert log[-1]["settings"] == ["grpc_port"]
    assert gateway.taken == []


def test_the_level_of_loggers_in_use_changes() -> None:
    out = io.StringIO()
    configure_logging("warning", json=True, stream=out)
    try:
        log = structlog.get_logger()
        log.info("first")
        set_level("debug")
        log.debug("second")
        set_level("error")
        log.warning("third")
        lines = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    finally:
        structlog.reset_defaults()
        set_level("info")
    assert lines == ["second"]


def test_other_rates_hold_from_now_on() -> None:
    rates = CallRates(settings(rates={"address": "1/s:1"}).rates, clock=lambda: 0.0)
    rates.admit("192.0.2.1")
    with pytest.raises(LimitError):
        rates.admit("192.0.2.1")
    rates.change(settings(rates={"address": "off"}).rates)
    for _ in range(10):
        rates.admit("192.0.2.1")
