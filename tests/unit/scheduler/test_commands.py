"""What `serve head` and `serve actor` refuse before they start anything."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from structlog.testing import capture_logs

from model_actor.media.limits import DecodeLimits
from model_actor.models.painter import PainterModel
from model_actor.settings import ActorSettings, check, decode_limits
from scheduler import commands
from scheduler import option_values as values
from scheduler.backends.launcher import ActorSpec
from scheduler.backends.ray import await_head
from scheduler.backends.ray_node import NodeSettings, RayNode, RayNodeError
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.core.ids import ActorId
from scheduler.core.tenants import TenantRules
from scheduler.options import pairs, split_address
from scheduler.scaling import ScalingRules

pytestmark = pytest.mark.unit


def spec(**changes: Any) -> ActorSpec:
    told = {"model": "simulated", "placement_address": "a:1", "lease_secret": "s", "listen": "a:0"}
    return ActorSpec(**{**told, **changes})


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides an installed package from those who look for it."""
    find = importlib.util.find_spec

    def hidden(wanted: str, *others: Any) -> Any:
        return None if wanted == name else find(wanted, *others)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "nosuch"}, "no plugin 'nosuch'"),
        ({"model": "painter", "model_options": {"foo": "1"}}, "painter has no option 'foo'"),
        ({"model_options": {"chunk_ms": "abc"}}, "chunk_ms"),
    ],
)
def test_a_model_that_no_actor_could_start_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        commands._preflight("in-process", "pack", [spec(**changes)], actors=1)


def test_a_head_without_actors_says_what_is_missing_and_goes_on() -> None:
    with capture_logs() as logged:
        commands._preflight("in-process", "pack", [spec(model="nosuch")], actors=0)
    assert [line["event"] for line in logged] == ["model.not_usable_here"]
    assert "no plugin 'nosuch'" in logged[0]["error"]


def test_an_unknown_policy_or_backend_is_refused() -> None:
    with pytest.raises(PluginError, match="no plugin 'heap'"):
        commands._preflight("in-process", "heap", [spec()], actors=1)
    with pytest.raises(ConfigurationError, match="ray or in-process"):
        commands._preflight("threads", "pack", [spec()], actors=1)


def test_without_ray_the_extra_and_the_way_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without("ray", monkeypatch)
    with pytest.raises(ConfigurationError, match=r"\[ray\].*--backend in-process"):
        commands._preflight("ray", "pack", [spec()], actors=1)
    commands._preflight("in-process", "pack", [spec()], actors=1)
    with pytest.raises(ConfigurationError, match=r"\[ray\]"):
        commands.serve_actor(join="127.0.0.1:1")


def test_painter_misses_opencv_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    PainterModel().configure({})
    without("cv2", monkeypatch)
    with pytest.raises(PluginError, match=r"pip install 'sana-gateway\[painter\]'"):
        PainterModel().configure({})


def test_a_fault_of_a_foreign_model_is_told_as_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        def configure(self, options: dict[str, str]) -> None:
            raise KeyError("weights")

    monkeypatch.setattr("scheduler.process.plugins.load", lambda *_: Foreign)
    with pytest.raises(PluginError, match="refuses its options: KeyError: 'weights'"):
        check(spec().for_actor(ActorId("a1")))


def test_decode_limits_reach_the_settings_of_an_actor() -> None:
    given = spec(decode_limits={"max_duration_s": "2.5", "max_bytes": "1000"})
    settings = ActorSettings.from_spec(given.for_actor(ActorId("a1")))
    assert settings.decode_limits == DecodeLimits(max_duration_s=2.5, max_bytes=1000)
    assert ActorSettings.from_spec(spec().for_actor(ActorId("a1"))).decode_limits == DecodeLimits()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_heigth": "1"}, "unknown decode limits: max_heigth; there are .*max_height"),
        ({"max_width": "2.5"}, "max_width is a whole number above zero"),
        ({"max_width": "0"}, "max_width is a whole number above zero"),
        ({"probe_s": "nan"}, "probe_s is a number above zero"),
        ({"probe_s": "soon"}, "probe_s is a number above zero"),
        ({"probe_s": "-1"}, "probe_s is a number above zero"),
        ({"probe_s": "inf"}, "probe_s is a number above zero"),
    ],
)
def test_a_bad_decode_limit_is_refused_with_what_there_is(
    given: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        decode_limits(given)


def test_an_actor_is_told_its_media_settings_and_has_the_same_defaults() -> None:
    told = spec(bitrate=1, encoder_threads=2, spare_decoders=3)
    settings = ActorSettings.from_spec(told.for_actor(ActorId("a1")))
    assert (settings.bitrate, settings.encoder_threads, settings.spare_decoders) == (1, 2, 3)
    untold = ActorSettings("a1", "a:1", "s", "simulated", listen="a:0")
    assert ActorSettings.from_spec(spec().for_actor(ActorId("a1"))) == untold


@pytest.mark.parametrize(
    ("backend", "node_ip", "folder", "listen"),
    [
        ("ray", "10.0.0.1", None, "{node_ip}:0"),
        ("in-process", "10.0.0.1", None, "10.0.0.1:0"),
        ("in-process", "", None, "127.0.0.1:0"),
        ("ray", "10.0.0.1", Path("/x"), "unix:/x/{actor_id}"),
    ],
)
def test_actors_listen_where_gateways_reach_them(
    backend: str, node_ip: str, folder: Path | None, listen: str
) -> None:
    assert commands._data_plane(backend, node_ip, folder) == listen


def told_to(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, Any]:
    """Has `serve head` start a Ray head with these arguments; returns what it would start."""
    started: list[Any] = []

    def start(scheduler: Any, specs: Any, *_: Any) -> Any:
        started.append((scheduler, specs[0]))
        raise ConfigurationError("not here")

    monkeypatch.setattr(commands, "_ray", start)
    monkeypatch.setattr(commands, "_preflight", lambda *_: None)
    with pytest.raises(ConfigurationError, match="not here"):
        typer.main.get_command(commands.head).main(list(arguments), standalone_mode=False)
    return started[0]


def test_a_head_may_listen_elsewhere_than_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, actor = told_to(monkeypatch, "--placement-host=10.0.0.1")
    assert scheduler.address == actor.placement_address == "10.0.0.1:50061"
    scheduler, actor = told_to(
        monkeypatch, "--placement-host=head.video.svc", "--placement-listen=0.0.0.0"
    )
    assert scheduler.address == "0.0.0.0:50061"
    assert actor.placement_address == "head.video.svc:50061"


def test_the_log_of_actors_goes_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    _, actor = told_to(monkeypatch, "--placement-host=10.0.0.1", "--actor-log=/proc/1/fd/2")
    assert actor.log["path"] == "/proc/1/fd/2"
    _, actor = told_to(monkeypatch, "--placement-host=10.0.0.1")
    assert "path" not in actor.log


@pytest.mark.parametrize("joins", ["", "10.0.0.1:6379"])
def test_only_a_head_logs_in_to_redis(joins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> list[str]:
        return RayNode(NodeSettings(head_address=joins, port=6379))._command()

    monkeypatch.delenv("REDIS_PASSWORD", raising=False)
    assert not [word for word in command() if "redis" in word]
    monkeypatch.setenv("REDIS_PASSWORD", "of-a-test")
    monkeypatch.setenv("REDIS_USERNAME", "sana")
    found = [word for word in command() if "redis" in word]
    assert found == ([] if joins else ["--redis-username=sana", "--redis-password=of-a-test"])


def test_heads_of_one_cluster_sign_leases_alike_and_others_do_not() -> None:
    first, again, other = (commands._lease_secret(token) for token in ("a", "a", "b"))
    assert first == again != other
    assert commands._lease_secret("") != commands._lease_secret("")
    assert min(len(first), len(commands._lease_secret(""))) >= 32


def test_times_are_read_in_their_units() -> None:
    given = {"30": 30.0, "1.5s": 1.5, "500ms": 0.5, "5m": 300.0, "12h": 43200.0, "2d": 172800.0}
    assert {text: values.seconds(text, "--o") for text in given} == given
    assert values.patience("never", "--o") is None
    assert values.patience("0", "--o") == 0.0
    for wrong in ("", "s", "-1s", "1w", "1 s", "nan", "never"):
        with pytest.raises(ConfigurationError, match="--o is a time, as 30s, 5m or 2d"):
            values.seconds(wrong, "--o")


def test_sizes_are_read_in_powers_of_1024() -> None:
    given = {"0": 0, "1000": 1000, "512M": 512 * 2**20, "8G": 8 * 2**30, "1T": 2**40}
    assert {text: values.size(text, "--o") for text in given} == given
    for wrong in ("", "G", "-1", "1.5G", "1g", "1GB"):
        with pytest.raises(ConfigurationError, match="--o is a size, as 512M or 8G"):
            values.size(wrong, "--o")


def test_models_have_counts_to_begin_with() -> None:
    assert values.counts(["painter", "simulated=3"], "--model") == {"painter": 0, "simulated": 3}
    for wrong in (["=1"], ["a=x"], ["a=-1"], ["a="], ["a", "a=1"]):
        with pytest.raises(ConfigurationError, match="--model has the form NAME or NAME=COUNT"):
            values.counts(wrong, "--model")


def test_options_go_to_the_model_they_name_or_to_the_first() -> None:
    given = ["chunk_ms=5", "painter:style=oil", "simulated:video=a:b=c"]
    assert values.model_options(given, ("simulated", "painter")) == {
        "simulated": {"chunk_ms": "5", "video": "a:b=c"},
        "painter": {"style": "oil"},
    }
    assert values.model_options(None, ("painter",)) == {"painter": {}}
    with pytest.raises(ConfigurationError, match="names 'other', which is not served"):
        values.model_options(["other:a=1"], ("painter",))


def test_spares_are_of_one_model_or_of_all() -> None:
    models = ("a", "b")
    assert values.spares(["b=0", "2"], models) == {"a": 2, "b": 0}
    assert values.spares(None, models) == {}
    for wrong in ("x", "c=1", "a=", "-1", "a=-1"):
        with pytest.raises(ConfigurationError, match="COUNT or MODEL=COUNT; models: a, b"):
            values.spares([wrong], models)


def test_tenants_are_entitled_to_what_is_said_and_others_to_the_rest() -> None:
    named, anybody = values.tenants(
        ["acme:weight=2,max=10,queued=5,priority=1", "*:max=0", "a:b:weight=0.5"]
    )
    assert named == {"acme": TenantRules(2.0, 10, 5, 1), "a:b": TenantRules(0.5)}
    assert anybody == TenantRules(max_sessions=0)
    assert values.tenants(None) == ({}, TenantRules())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["acme"], "NAME:KEY=VALUE"),
        ([":max=1"], "NAME:KEY=VALUE"),
        (["acme:"], "NAME=VALUE"),
        (["a:max=1", "a:max=2"], "each name once"),
        (["acme:most=1"], "stored, and not most"),
        (["acme:max=1.5"], "whole numbers"),
        (["acme:max=-1"], "0 or more"),
        (["acme:weight=0"], "above 0"),
        (["acme:weight=inf"], "above 0"),
        (["acme:weight=nan"], "above 0"),
    ],
)
def test_a_tenant_that_makes_no_sense_is_refused(given: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        values.tenants(given)


def test_the_bounds_of_a_cluster_that_grows_are_read() -> None:
    assert values.span("1-64", "--autoscale") == (1, 64)
    assert values.span("0-1", "--autoscale") == (0, 1)
    for wrong in ("", "3", "3-", "-3", "4-3", "0-0", "a-b"):
        with pytest.raises(ConfigurationError, match="--autoscale has the form LEAST-MOST"):
            values.span(wrong, "--autoscale")


def test_a_cluster_that_grows_may_be_told_when_to_shrink() -> None:
    assert commands._scaling("") is None
    assert commands._scaling("1-64") == ScalingRules(least=1, most=64)
    assert commands._scaling("0-3,5s") == ScalingRules(least=0, most=3, shrink_after=5.0)
    for wrong in ("0-3,soon", ",5s"):
        with pytest.raises(ConfigurationError, match="--autoscale"):
            commands._scaling(wrong)


def test_options_in_pairs_are_read_up_to_the_first_sign() -> None:
    assert pairs(["a=1", "b=x=y", "c="], "--o") == {"a": "1", "b": "x=y", "c": ""}
    assert pairs(None, "--o") == {}
    for wrong in ("a", "=1"):
        with pytest.raises(ConfigurationError, match="--o has the form NAME=VALUE"):
            pairs([wrong], "--o")


def test_addresses_have_a_host_and_a_port() -> None:
    assert split_address("head.example:6379") == ("head.example", 6379)
    assert split_address("[::1]:1") == ("::1", 1)
    for wrong in ("nonsense", "a:", ":1", "a:0", "a:65536", "a:b", "::1:1", "http://a:1", "a b:1"):
        with pytest.raises(ConfigurationError, match="host:port"):
            split_address(wrong)


def test_a_head_that_listens_is_found_and_one_that_does_not_is_named() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(RayNodeError, match=f"no Ray head answers at {address}"):
            await_head(address, 0.0)
        listening.listen()
        await_head(address, 0.0)


def test_a_head_may_come_up_after_its_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        tries: list[float] = []

        def listen_at_the_second_try(pause: float) -> None:
            tries.append(pause)
            late.listen()

        monkeypatch.setattr(time, "sleep", listen_at_the_second_try)
        await_head(f"127.0.0.1:{late.getsockname()[1]}", 60.0)
        assert len(tries) == 1


def test_a_ray_worker_fills_in_the_address_of_its_own_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray_actors = pytest.importorskip("scheduler.backends.ray_actors")
    made: list[dict[str, Any]] = []
    shell: Callable[[dict[str, Any]], None] = made.append
    monkeypatch.setattr("scheduler.backends.launcher.resolve", lambda _: shell)
    monkeypatch.setattr(ray_actors, "get_node_ip_address", lambda: "10.1.2.3")
    monkeypatch.setattr(ray_actors, "_configure_process", lambda *_: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    monkeypatch.setattr(ray_actors, "_on_sigterm", lambda _: None)
    monkeypatch.setenv("SANA_KEPT_STATES", "/kept")
    ray_actors.RayShellHost("a:B", spec(listen="{node_ip}:0").for_actor(ActorId("a1")))
    told = made[0]
    assert (told["listen"], told["host"]) == ("10.1.2.3:0", "10.1.2.3")
    assert told["snapshot_root"] == "/kept"
    assert json.dumps(told)
