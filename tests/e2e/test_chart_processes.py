"""The chart's containers as processes: their commands as written, until ready, then SIGTERM.

What a cluster would do is done here in its smallest form: variables are put into arguments, files
of config maps and secrets lie where they are mounted, probes are asked as the kubelet asks them.
Ports, addresses and folders are the chart's own values.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.leaving import CONNECTIONS
from sana_gateway import Client
from scheduler.backends.ray_node import free_port
from scheduler.process.certificates import make
from tests.contract.helm import chart, pods
from tests.required import require_command
from tests.stack import TAG, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

READY_S = 120
ADDRESSES = {"gateway": "127.0.0.1", "head": "127.0.0.2", "actor": "127.0.0.3"}
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Container:
    """A running container: its process, and what the manifest says of it."""

    stack: Stack
    manifest: chart.Json
    env: Mapping[str, str]
    address: str

    @property
    def ports(self) -> dict[str, int]:
        """Its ports by name."""
        return {each["name"]: each["containerPort"] for each in self.manifest["ports"]}

    def asked(self, probe: str) -> int:
        """Asks as the kubelet does; returns the HTTP status, 0 if nobody answers."""
        what = self.manifest[probe]["httpGet"]
        url = f"http://{self.address}:{self.ports[what['port']]}{what['path']}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def await_probe(self, probe: str) -> None:
        """Returns once it answers 200."""
        deadline = time.monotonic() + READY_S
        while (status := self.asked(probe)) != 200:
            assert self.stack.process.poll() is None, self.stack.last_words
            assert time.monotonic() < deadline, f"{probe}: {status}\n{self.stack.last_words}"
            time.sleep(0.2)

    def before_stop(self) -> int:
        """Runs what the manifest has run before SIGTERM; returns its exit status."""
        command = self.manifest["lifecycle"]["preStop"]["exec"]["command"]
        return subprocess.run(command, env=self.env, timeout=60, check=False).returncode


def start(
    stack: contextlib.ExitStack, component: str, template: chart.Json, folder: Path, token: str
) -> Container:
    """Starts a container of a pod as its manifest says."""
    (manifest,) = template["spec"]["containers"]
    address = ADDRESSES[component]
    fields = {"status.podIP": address, "metadata.name": f"pod-{component}"}
    own = pods.environment(manifest, fields)
    # What KubeRay adds to its pods, of `authOptions` and of the cluster.
    added = {} if component == "gateway" else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    tag = uuid.uuid4().hex
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **added, **own, "PATH": path, TAG: tag}
    log = folder / f"{component}.log"
    sink = stack.enter_context(log.open("ab"))
    process = subprocess.Popen(
        pods.command_line(manifest, own),
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=sink,
    )
    running = Container(Stack({}, process, log, tag), manifest, env, address)
    stack.callback(lambda: process.poll() is None and running.stack.kill())
    return running


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> chart.Rendering:
    """The laptop's values, with TLS between the roles, for ports and folders of this machine."""
    folder = tmp_path_factory.mktemp("pods")
    values = chart.merged(
        chart.value_sets()["laptop"],
        {
            "tls": {"enabled": True},
            "paths": {
                "config": str(folder / "config"),
                "secrets": str(folder / "secrets"),
                "storage": str(folder / "storage"),
            },
            "gateway": {
                "host": ADDRESSES["gateway"],
                "ports": {"http": free_port(), "grpc": free_port()},
            },
            "scheduler": {"host": ADDRESSES["head"], "port": free_port()},
            "ray": {
                "gcsPort": free_port(),
                "healthPort": free_port(),
                "actorLog": str(folder / "actors.log"),
            },
        },
    )
    rendering = chart.rendered(chart.run({"processes": values}))["processes"]
    (folder / "storage").mkdir()
    (folder / "config").mkdir()
    for name, text in rendering.of("ConfigMap", "gateway")["data"].items():
        (folder / "config" / name).write_text(text)
    make(folder / "secrets/tls", days=1, now=dt.datetime.now(dt.UTC))
    (folder / "actors.log").touch()
    return rendering


@pytest.fixture(scope="module")
def containers(
    rendering: chart.Rendering, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Container]]:
    """All three, ready."""
    token, folder = secrets.token_hex(32), tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:
        running = {
            name: start(stack, name, rendering.pod(name), folder, token) for name in ADDRESSES
        }
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for name in ("head", "actor", "gateway"):
                running[name].await_probe(probe)
        yield running


async def test_the_containers_serve_a_session(containers: dict[str, Container]) -> None:
    gateway = containers["gateway"]
    address = f"{gateway.address}:{gateway.ports['grpc']}"
    async with (
        Client(address) as client,
        await client.create_session("painter", timeout=60) as session,
    ):
        assert session.session_id


def test_what_autoscalers_and_the_drain_go_by_is_told(containers: dict[str, Container]) -> None:
    gateway = containers["gateway"]
    url = f"http://{gateway.address}:{gateway.ports['http']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    assert "\nsana_gateway_sessions" in text
    assert f"\n{CONNECTIONS}" in text


def test_the_containers_end_in_order(containers: dict[str, Container]) -> None:
    assert containers["gateway"].before_stop() == 0
    for name in ("gateway", "actor", "head"):
        containers[name].stack.stop()


def test_the_relay_runs_as_the_chart_tells_it_to(tmp_path: Path) -> None:
    program = require_command("turnserver", "install Debian's package coturn")
    values = chart.merged(
        chart.value_sets()["default"], {"coturn": {"port": free_port(), "publicHost": "t.local"}}
    )
    rendering = chart.rendered(chart.run({"relay": values}))["relay"]
    spec = rendering.pod("coturn")["spec"]
    (copying,), (manifest,) = spec["initContainers"], spec["containers"]

    def mounted(words: list[str]) -> list[str]:
        """Puts a folder of ours where an empty one would be mounted."""
        return [word.replace("/run/coturn", str(tmp_path)) for word in words]

    command = pods.command_line(copying, {})
    assert command[1] == "/usr/bin/turnserver"
    subprocess.run(mounted([command[0], str(program), *command[2:]]), check=True)
    fields = {"status.podIP": "127.0.0.1", "metadata.name": "relay"}
    env = pods.environment(
        manifest, {**fields, "sana-gateway-turn/turn-secret": secrets.token_hex(32)}
    )
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            mounted(pods.command_line(manifest, env)), stdout=sink, stderr=sink
        )
    try:
        (port,) = (
            each["containerPort"] for each in manifest["ports"] if each["name"] == "turn-tcp"
        )
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(20)
    # Older ones want a password for a command line that is off without it.
    said = log.read_text(errors="replace").replace("ERROR: \nCONFIG ERROR: Empty cli-password", "")
    assert not re.search(r"ERROR|unrecognized|Bad ", said), said
