"""What `serve` and `serve gateway` refuse, pass on and say about themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import Mock, patch

import grpc
import pytest
import typer.main
from structlog.testing import capture_logs
from typer.testing import CliRunner

from gateway import cli, commands, placement, serving
from gateway.front_door.process import FrontDoor
from gateway.head_process import HeadOptions
from gateway.placement import MOST_RETRY_S, PlacementClient, retry_pause
from gateway.process import GatewayProcess
from gateway.settings import GatewaySettings
from model_actor.media.limits import DecodeLimits
from scheduler import commands as scheduler_commands
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.process.config import load_settings
from tests.required import ROOT

pytestmark = pytest.mark.unit

GUIDE = ROOT / "docs" / "roles.md"


def gateway_settings(root: Path, **overrides: object) -> GatewaySettings:
    told = {"storage_options": {"root": str(root)}, "http_port": 0, "grpc_port": 0, **overrides}
    return load_settings(GatewaySettings, overrides=told)


def help_text(*words: str) -> str:
    result = CliRunner().invoke(cli.build(), [*words, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_the_default_of_an_upload_is_what_the_decoder_takes() -> None:
    assert GatewaySettings().limits.max_upload_bytes == DecodeLimits().max_bytes


@pytest.mark.parametrize("address", ["127.0.0.1:50061", "[::1]:1", "head:50061", "unix:/run/x"])
def test_an_address_of_the_scheduler_is_taken(address: str) -> None:
    settings = load_settings(GatewaySettings, overrides={"placement_address": address})
    assert settings.placement_address == address


@pytest.mark.parametrize("address", ["nonsense", "a:0", "unix:", "http://a:1", ":50061"])
def test_what_is_no_address_of_a_scheduler_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="placement_address: the form is host:port or"):
        load_settings(GatewaySettings, overrides={"placement_address": address})


@pytest.mark.parametrize("key", ["http_port", "grpc_port"])
@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(key: str, port: int) -> None:
    with pytest.raises(ConfigurationError, match=key):
        load_settings(GatewaySettings, overrides={key: port})


def test_a_gateway_without_a_storage_root_says_which_option_gives_it() -> None:
    with pytest.raises(ConfigurationError, match="--storage-root"):
        GatewayProcess(GatewaySettings())


def test_an_unknown_auth_plugin_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no plugin 'nosuch'"):
        GatewayProcess(gateway_settings(tmp_path, auth="nosuch"))


@pytest.mark.parametrize("made", [GatewayProcess, FrontDoor])
def test_a_gateway_without_the_certificate_it_was_told_of_says_what_makes_one(
    made: type[GatewayProcess | FrontDoor], tmp_path: Path
) -> None:
    settings = gateway_settings(tmp_path, tls=str(tmp_path), media_workers=1)
    with pytest.raises(ConfigurationError, match=r"no readable ca\.crt: `sana-gateway certs`"):
        made(settings)


def test_where_its_certificate_is_a_role_is_told_by_its_environment_too(tmp_path: Path) -> None:
    command = typer.main.get_command(scheduler_commands.actor)
    told = {"SANA_GATEWAY_TLS": str(tmp_path)}
    with patch.dict(os.environ, told):
        heard = command.make_context("actor", ["--join", "127.0.0.1:1"]).params
        assert heard["tls"] == tmp_path
        assert load_settings(GatewaySettings).tls == str(tmp_path)


@pytest.mark.parametrize("key", ["http_port", "grpc_port"])
async def test_a_port_in_use_is_one_sentence_and_nothing_stays_behind(
    key: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = GatewayProcess(gateway_settings(tmp_path, **{key: port}))
        before = asyncio.all_tasks()
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
            await process.start(f"unix:{tmp_path}/nobody")
        left = {
            task.get_name() for task in asyncio.all_tasks() - before if "hub" in task.get_name()
        }
        assert left == set()


def test_what_is_passed_on_is_what_the_head_understands() -> None:
    told = {
        "model": ["simulated=1", "painter"],
        "model_option": ["chunk_ms=100", "busy=true"],
        "actors": 2,
        "surge": 1,
        "backend": "in-process",
        "ray_address": "10.0.0.1:6379",
        "reconnect_window": "2d",
        "park_after": "never",
        "snapshot_memory": "8G",
        "degrade": True,
        "rebalance": False,
        "tenant": ["acme:weight=2", "*:max=1"],
        "warm_spares": None,
        "autoscale": "",
        "gpus_per_actor": 0.5,
        "encoder": "nvenc",
        "spare_decoders": 0,
        "decode_limit": ["max_fps=60"],
        "tls": Path("/etc/sana/tls"),
    }
    stored = {"bucket": "clips", "prefix": "a=b"}
    options = HeadOptions(told, "s3", stored, otlp_endpoint="", log_level="debug")
    command = typer.main.get_command(scheduler_commands.head)
    heard = command.make_context("head", options.arguments()).params
    assert {name: heard[name] or None for name in told} == {
        name: value or None for name, value in told.items()
    }
    assert (heard["placement_port"], heard["end_with_stdin"]) == (0, True)
    assert (heard["storage"], heard["log_level"]) == ("s3", "debug")
    assert heard["storage_option"] == ["bucket=clips", "prefix=a=b"]


def test_serve_passes_on_all_that_the_head_has_too(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[HeadOptions] = []

    async def serve(
        read: Callable[[], GatewaySettings],
        head: Callable[[GatewaySettings], HeadOptions],
        _: object,
    ) -> None:
        passed.append(head(read()))

    monkeypatch.setattr(serving, "serve_all", serve)
    result = CliRunner().invoke(cli.build(), ["serve", "--no-rebalance"])
    assert result.exit_code == 0, result.output
    mine, theirs = (
        {option.name for option in typer.main.get_group(app).params}
        for app in (commands.serve, scheduler_commands.head)
    )
    own = {"storage_root", "storage", "storage_option", "log_level", "otlp_endpoint", "config"}
    own |= {"ready_file"}
    own |= {"install_completion", "show_completion"}
    assert passed[0].told.keys() == (mine & theirs) - own
    assert passed[0].told["rebalance"] is False


@pytest.mark.parametrize(
    ("words", "plugin", "kept"),
    [
        ((), "filesystem", False),
        (("--storage-root", "/srv/sana"), "filesystem", True),
        (("--storage", "s3", "--storage-option", "bucket=clips"), "s3", True),
    ],
)
def test_all_roles_of_serve_share_one_storage(
    words: tuple[str, ...], plugin: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[tuple[GatewaySettings, HeadOptions]] = []

    async def serve(
        read: Callable[[], GatewaySettings],
        head: Callable[[GatewaySettings], HeadOptions],
        _: object,
    ) -> None:
        passed.append((read(), head(read())))

    monkeypatch.setattr(serving, "serve_all", serve)
    result = CliRunner().invoke(cli.build(), ["serve", *words])
    assert result.exit_code == 0, result.output
    ((settings, head),) = passed
    assert (settings.storage, head.storage) == (plugin, plugin)
    assert settings.storage_options == head.storage_options != {}
    # A folder of its own goes with the service.
    assert Path(head.storage_options.get("root", "/srv/sana")).is_relative_to("/srv") is kept


def test_a_folder_for_a_storage_that_has_none_is_refused() -> None:
    words = ["serve", "--storage", "s3", "--storage-root", "/srv"]
    refused = CliRunner().invoke(cli.build(), words)
    assert isinstance(refused.exception, ConfigurationError)


def test_the_help_shows_defaults_examples_and_the_stand_in() -> None:
    shown = help_text("serve")
    for words in (
        "[default: 8080]",
        "[default: 50051]",
        "[default: 127.0.0.1]",
        "[default: none]",
        "sana-gateway serve --model simulated",
        "reactor/sana-streaming",
        "--decode-limit",
        "--policy",
        "--gpus-per-actor",
        "--bitrate",
        "--park-after",
        "--tenant",
        "--no-rebalance",
        "as acme:weight=2,max=10",
    ):
        assert words in shown
    for words in ("[default: 127.0.0.1:50061]", "--media-workers", "--udp-ports", "Sizing:"):
        assert words in help_text("serve", "gateway")


def test_the_help_hides_what_only_our_own_processes_use() -> None:
    shown = help_text("serve", "head")
    assert "--placement-port" in shown
    assert "--announce-fd" not in shown
    assert "--end-with-stdin" not in shown


def test_pauses_grow_from_half_a_second_to_ten() -> None:
    pauses = [retry_pause(misses) for misses in range(1, 2000)]
    assert retry_pause(0) == pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == MOST_RETRY_S == 10.0


class NoScheduler:
    """Stubs of a scheduler that does not answer; the tenth question ends the asking."""

    def __init__(self) -> None:
        self.asked = 0
        self.enough = asyncio.Event()

    async def DescribePool(self, *_: object, **__: object) -> object:  # noqa: N802
        self.asked += 1
        if self.asked == 10:
            self.enough.set()
        raise self._away()

    def Presence(self, *_: object, **__: object) -> AsyncIterator[object]:  # noqa: N802
        raise self._away()

    def _away(self) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
        )


async def test_a_scheduler_that_is_away_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "retry_pause", lambda _: 0.001)
    client = PlacementClient("unix:/nowhere", "g1")
    scheduler = NoScheduler()
    monkeypatch.setattr(client, "_stub", scheduler)
    with capture_logs() as logged:
        tasks = [
            asyncio.create_task(client.run_poll()),
            asyncio.create_task(client.run_presence(dict, Mock())),
        ]
        async with asyncio.timeout(20):
            await scheduler.enough.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
    told = [line for line in logged if line["log_level"] != "debug"]
    assert [(line["event"], line["address"]) for line in told] == [
        ("scheduler.away", "unix:/nowhere")
    ]


def test_the_guide_lists_the_decode_limits_as_they_are() -> None:
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    defaults = {name: str(value) for name, value in dataclasses.asdict(DecodeLimits()).items()}
    cells = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in rows]
    assert {row[0]: row[1] for row in cells if len(row) == 3 and row[0] in defaults} == defaults
