"""`sana-gateway doctor`: each check says fine, or what to do."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from gateway import host_checks
from gateway.doctor_command import ROLES, admitted, checks, doctor
from model_actor import host_checks as actor_checks
from model_actor.media.sandbox import SandboxStatus
from scheduler.core.errors import ConfigurationError
from scheduler.process import certificates, diagnosis
from scheduler.process import host_checks as all_checks
from scheduler.process.diagnosis import Finding, Named, Patient, Verdict, examine

pytestmark = pytest.mark.unit

NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)


def patient(role: str = "serve", file: str = "", /, **environment: str) -> Patient:
    """A machine with a settings file."""
    return admitted(ROLES[role], Path(file) if file else None, None, environment)


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sana.toml"
    path.write_text(text)
    return str(path)


def one(found: Iterable[Finding], about: str) -> Finding:
    (only,) = [each for each in found if each.about == about]
    return only


@pytest.fixture
def taken() -> Iterator[int]:
    """A TCP port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def bound() -> Iterator[int]:
    """A TCP port that is taken and that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_a_free_port_is_fine_one_in_use_a_note_and_a_lost_one_a_fault(
    taken: int, bound: int, tmp_path: Path
) -> None:
    file = config(tmp_path, f"http_port = {taken}\ngrpc_port = {bound}")
    found = await host_checks.ports(patient("gateway", file))
    assert one(found, "HTTP port").verdict is Verdict.NOTE
    assert one(found, "gRPC port").verdict is Verdict.FAULT
    file = config(tmp_path, "http_port = 0\ngrpc_port = 0")
    found = await host_checks.ports(patient("gateway", file))
    assert {each.verdict for each in found} == {Verdict.FINE}


async def test_too_few_udp_ports_for_the_workers_are_worth_a_note(tmp_path: Path) -> None:
    file = config(tmp_path, 'media_workers = 4\nudp_ports = "40000-40099"')
    (found,) = await host_checks.udp(patient("gateway", file))
    assert (found.verdict, found.found) == (Verdict.NOTE, "25 for each media worker")
    assert "160 or more" in found.advice


async def test_a_stun_server_that_does_not_answer_is_a_fault_without_its_password(
    tmp_path: Path,
) -> None:
    file = config(tmp_path, 'ice_servers = ["turn:me:hush@127.0.0.1:9"]')
    (found,) = await host_checks.ice(patient("gateway", file))
    assert found.verdict is Verdict.FAULT
    assert "127.0.0.1:9 does not answer" in found.found
    assert "hush" not in str(found)


async def test_a_stun_server_that_answers_is_fine(tmp_path: Path) -> None:
    class Stun(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(b"\x01\x01\x00\x00" + data[4:20], addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Stun, local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    file = config(tmp_path, f'ice_servers = ["stun:127.0.0.1:{port}"]')
    try:
        (found,) = await host_checks.ice(patient("gateway", file))
    finally:
        transport.close()
    assert found.verdict is Verdict.FINE


@pytest.mark.parametrize(
    ("text", "about", "verdict"),
    [
        ("", "who may call", Verdict.FINE),
        ('host = "0.0.0.0"', "who may call", Verdict.FAULT),
        ('host = "0.0.0.0"', "public TLS", Verdict.NOTE),
        ('auth = "api-key"\napi_keys = "/none"', "who may call", Verdict.FAULT),
        ('tls_cert = "/none"\ntls_key = "/none"', "public TLS", Verdict.FAULT),
    ],
)
async def test_doors(text: str, about: str, verdict: Verdict, tmp_path: Path) -> None:
    found = await host_checks.doors(patient("gateway", config(tmp_path, text)))
    assert one(found, about).verdict is verdict


async def test_a_storage_is_written_and_left_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "root"
    file = config(tmp_path, f'[storage_options]\nroot = "{root}"')
    (found,) = await host_checks.storage(patient("gateway", file))
    assert found.verdict is Verdict.FINE
    assert [path for path in root.rglob("*") if path.is_file()] == []


async def test_a_storage_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = config(tmp_path, f'[storage_options]\nroot = "{tmp_path}/file/below"')
    (found,) = await host_checks.storage(patient("gateway", file))
    assert found.verdict is Verdict.FAULT


async def test_a_gateway_apart_needs_its_scheduler(taken: int, tmp_path: Path) -> None:
    file = config(tmp_path, f'placement_address = "127.0.0.1:{taken}"')
    (found,) = await host_checks.scheduler(patient("gateway", file))
    assert found.verdict is Verdict.FINE
    file = config(tmp_path, f'placement_address = "unix:{tmp_path}/nobody"')
    (found,) = await host_checks.scheduler(patient("gateway", file))
    assert found.verdict is Verdict.FAULT
    assert await host_checks.scheduler(patient("serve", file)) == []


@pytest.mark.parametrize(
    ("days", "verdict"), [(-1, Verdict.FAULT), (5, Verdict.NOTE), (100, Verdict.FINE)]
)
def test_a_certificate_is_told_before_it_ends(days: int, verdict: Verdict, tmp_path: Path) -> None:
    certificates.make(tmp_path / "tls", days=200, now=NOW)
    pem = (tmp_path / "tls/tls.crt").read_bytes()
    later = NOW + dt.timedelta(days=200 - days)
    (found,) = all_checks.expiry("TLS", pem, later)
    assert found.verdict is verdict
    (early,) = all_checks.expiry("TLS", pem, NOW - dt.timedelta(days=3))
    assert "begins in" in early.found


async def test_a_scheduler_that_others_reach_in_the_clear_is_a_fault(tmp_path: Path) -> None:
    file = config(tmp_path, '[head]\nplacement_host = "10.0.0.1"')
    (found,) = await all_checks.certificates(patient("head", file))
    assert found.verdict is Verdict.FAULT
    assert await all_checks.certificates(patient("head")) == []


async def test_an_actor_without_the_secret_of_its_cluster_is_a_fault(
    taken: int, tmp_path: Path
) -> None:
    file = config(tmp_path, f'[actor]\njoin = "127.0.0.1:{taken}"')
    found = await all_checks.ray(patient("actor", file))
    assert one(found, "Ray's secret").verdict is Verdict.FAULT
    assert one(found, "Ray's head").verdict is Verdict.FINE
    found = await all_checks.ray(patient("actor", file, RAY_AUTH_TOKEN="hush"))
    assert "hush" not in str(found)
    assert {each.about for each in found} == {"Ray", "Ray's head"}


async def test_a_head_whose_gpu_is_not_there_is_a_fault(tmp_path: Path) -> None:
    text = '[head]\nmodel = ["sana-streaming"]\ngpus_per_actor = 1'
    with patch("shutil.which", return_value=None):
        (found,) = await actor_checks.gpu(patient("head", config(tmp_path, text)))
        assert found.verdict is Verdict.FAULT
        (found,) = await actor_checks.gpu(patient("head"))
        assert found.verdict is Verdict.FINE


async def test_walls_that_are_missing_are_told_with_the_reason() -> None:
    missing = SandboxStatus(network="user namespaces are off")
    with patch.object(actor_checks, "sandbox_status", return_value=missing):
        (found,) = await actor_checks.walls(patient("actor"))
    assert (found.verdict, found.found) == (Verdict.NOTE, "network: user namespaces are off")


async def test_a_model_that_is_not_installed_is_a_fault(tmp_path: Path) -> None:
    file = config(tmp_path, '[head]\nmodel = ["nosuch=2", "painter"]')
    found = list(await actor_checks.models(patient("head", file)))
    assert [each.verdict for each in found] == [Verdict.FAULT, Verdict.FINE]


async def test_a_check_that_breaks_or_hangs_keeps_no_other_from_its_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnosis, "LONGEST_S", 0.05)

    async def breaks(_: Patient) -> list[Finding]:
        raise RuntimeError("secret")

    async def hangs(_: Patient) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def speaks(_: Patient) -> list[Finding]:
        return diagnosis.fine("third", "well")

    everywhere = frozenset({"gateway"})
    tried = [
        Named("first", everywhere, breaks),
        Named("second", everywhere, hangs),
        Named("third", everywhere, speaks),
        Named("elsewhere", frozenset({"head"}), breaks),
    ]
    found = await examine(tried, patient("gateway"))
    assert [(each.about, each.verdict) for each in found] == [
        ("first", Verdict.NOTE),
        ("second", Verdict.NOTE),
        ("third", Verdict.FINE),
    ]
    assert "secret" not in str(found)


def test_every_role_is_looked_at_and_every_check_is_somebodys() -> None:
    assert {name for check in checks() for name in check.roles} == {"gateway", "head", "actor"}
    assert len(checks()) == len({check.about for check in checks()}) >= 14


def test_the_command_ends_with_1_at_a_fault_and_prints_json(taken: int, tmp_path: Path) -> None:
    file = config(tmp_path, 'http_port = 0\ngrpc_port = 0\nhost = "127.0.0.1"')
    run = CliRunner().invoke(doctor, ["--role", "gateway", "--config", file, "--json"])
    told = {each["about"]: each for each in json.loads(run.output)}
    assert run.exit_code == 1
    assert told["scheduler"]["verdict"] == "fault"
    file = config(
        tmp_path, f'http_port = 0\ngrpc_port = 0\nplacement_address = "127.0.0.1:{taken}"'
    )
    run = CliRunner().invoke(doctor, ["--role", "gateway", "--config", file])
    assert run.exit_code == 0, run.output
    assert "nothing keeps it from serving" in run.output
    refused = CliRunner().invoke(doctor, ["--role", "cook"])
    assert isinstance(refused.exception, ConfigurationError)
