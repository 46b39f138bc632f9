"""What the containers are told is what the command line and the settings take."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.commands import gateway as gateway_command
from gateway.settings import GatewaySettings
from scheduler.commands import actor as actor_command
from scheduler.commands import head as head_command
from scheduler.process.config import load_settings
from tests.contract.helm import chart, pods

pytestmark = pytest.mark.contract

COMMANDS = {"gateway": gateway_command, "head": head_command, "actor": actor_command}
ADDRESS = {"POD_IP": "127.0.0.2", "POD_NAME": "rel-sana-gateway-gateway-0"}


def parsed(role: str, container: chart.Json) -> dict[str, Any]:
    """Reads the arguments of a container with the role's own command line; runs nothing."""
    words = pods.command_line(container, ADDRESS)
    assert words[:3] == ["sana-gateway", "serve", role]
    return dict(typer.main.get_command(COMMANDS[role]).make_context(role, words[3:]).params)


def settings(rendering: chart.Rendering, folder: Path) -> list[GatewaySettings]:
    """Reads the settings files of the gateways."""
    read = []
    for name, text in rendering.of("ConfigMap", "gateway")["data"].items():
        (folder / name).write_text(text)
        read.append(load_settings(GatewaySettings, file=folder / name))
    return read


def test_the_settings_of_gateways_are_settings(rendering: chart.Rendering, tmp_path: Path) -> None:
    for each in settings(rendering, tmp_path):
        assert each.host == "0.0.0.0"
        assert each.placement_address.endswith(":50061")
        assert each.udp_port_range(_share(each)) is not None


def _share(each: GatewaySettings) -> Any:
    from gateway.front_door.routing import Share

    return Share(0, max(1, each.media_workers))


def test_values_reach_the_settings(renderings: dict[str, chart.Rendering], tmp_path: Path) -> None:
    (ingress,) = settings(renderings["ingress"], tmp_path)
    assert (ingress.limits.max_upload_bytes, ingress.limits.max_peers) == (100_000_000, 32)
    assert ingress.recording.enabled
    assert ingress.auth == "api-key"
    assert ingress.turn_secret.endswith("/turn/turn-secret")
    assert [each.url for each in ingress.ice()] == [
        "turn:turn.example.com:3478?transport=udp",
        "turn:turn.example.com:3478?transport=tcp",
        "turns:turn.example.com:5349?transport=tcp",
    ]
    (s3,) = settings(renderings["s3"], tmp_path)
    assert s3.storage_options == {"bucket": "clips", "endpoint": "https://s3.example.com"}
    assert s3.tls_cert.endswith("/public-tls/tls.crt")
    (host,) = settings(renderings["host-network"], tmp_path)
    assert host.media_workers == 4
    (laptop,) = settings(renderings["laptop"], tmp_path)
    assert (laptop.auth, laptop.tls, laptop.ice()) == ("none", "", ())
    (both,) = settings(renderings["cert-manager"], tmp_path)
    assert both.auth == "api-key,jwks"
    assert both.api_keys.endswith("/api-keys/keys.yaml")
    (provider,) = settings(renderings["gateways-only"], tmp_path)
    assert (provider.auth, provider.api_keys) == ("jwks", "")
    balanced = settings(renderings["lb-ports"], tmp_path)
    assert [each.udp_address for each in balanced] == [
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.12",
    ]


def test_every_container_of_ours_is_told_what_its_role_takes(rendering: chart.Rendering) -> None:
    for _, template in rendering.pods():
        container = template["spec"]["containers"][0]
        if container["command"] == ["sana-gateway"]:
            parsed(container["args"][1], container | {"args": _without_file(container)})


def _without_file(container: chart.Json) -> list[str]:
    """The settings file is read while the command line is: it is not here."""
    return [each for each in container["args"] if not each.startswith("--config=")]


def test_gateways_read_the_file_that_is_there(rendering: chart.Rendering) -> None:
    container = rendering.pod("gateway")["spec"]["containers"][0]
    (option,) = (each for each in container["args"] if each.startswith("--config="))
    path = Path(pods.expanded(option, ADDRESS).partition("=")[2])
    assert path.name in rendering.of("ConfigMap", "gateway")["data"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "config")
    assert str(path.parent) == mount["mountPath"]


def test_values_reach_head_and_actors(renderings: dict[str, chart.Rendering]) -> None:
    head = parsed("head", renderings["gpu"].pod("head")["spec"]["containers"][0])
    assert head["placement_host"] == "rel-sana-gateway-head.video.svc.cluster.local"
    assert (head["placement_listen"], head["node_ip"]) == ("127.0.0.2", "127.0.0.2")
    assert head["actors"] == 0
    assert list(head["model"]) == ["sana-streaming"]
    assert head["autoscale"] == "2-16,5m"
    assert head["degrade"] is True
    assert head["weights"] == Path("/srv/weights/sana-streaming")
    actor = parsed("actor", renderings["gpu"].pod("actor")["spec"]["containers"][0])
    assert actor["join"] == "rel-sana-gateway-head.video.svc.cluster.local:6379"
    assert actor["actors"] == 4
    s3 = parsed("head", renderings["s3"].pod("head")["spec"]["containers"][0])
    assert s3["storage"] == "s3"
    assert "bucket=clips" in s3["storage_option"]
    assert s3["storage_root"] is None


def test_what_a_command_names_is_mounted(rendering: chart.Rendering) -> None:
    for name, template in rendering.pods():
        volumes = {each["name"] for each in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
            assert set(mounts.values()) <= volumes, name
            for word in container.get("args", ()):
                value = word.partition("=")[2]
                if value.startswith(("/etc/", "/srv/storage")):
                    assert any(value.startswith(mount) for mount in mounts), f"{name} {word}"


def test_files_that_the_settings_name_are_mounted(rendering: chart.Rendering) -> None:
    container = rendering.pod("gateway")["spec"]["containers"][0]
    mounts = [each["mountPath"] for each in container["volumeMounts"]]
    for text in rendering.of("ConfigMap", "gateway")["data"].values():
        for value in tomllib.loads(text).values():
            if isinstance(value, str) and value.startswith("/"):
                assert any(f"{value}/".startswith(f"{each}/") for each in mounts), value


def test_pods_have_time_for_what_they_do_at_their_end(rendering: chart.Rendering) -> None:
    gateway = rendering.pod("gateway")["spec"]
    stop = gateway["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    told = {
        name: float(value) for name, _, value in (each.partition("=") for each in stop) if value
    }
    needed = told["--notice"] + told["--at-most"]
    assert gateway["terminationGracePeriodSeconds"] >= needed + 10
    if any(each["kind"] == "RayCluster" for each in rendering.objects):
        worker = rendering.pod("actor")["spec"]
        grace = parsed("actor", worker["containers"][0])["drain_grace"]
        assert worker["terminationGracePeriodSeconds"] >= float(grace.rstrip("s")) + 20


def test_the_autoscaler_knows_what_a_worker_brings(
    renderings: dict[str, chart.Rendering],
) -> None:
    spec = renderings["gpu"].of("RayCluster")["spec"]
    (group,) = spec["workerGroupSpecs"]
    # As Ray's autoscaler reads it (ray/autoscaler/_private/kuberay/autoscaling_config.py).
    text = group["rayStartParams"]["resources"][1:-1].replace("\\", "")
    assert text == '{"sana_actor": 4}'
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 4)
    assert "replicas" not in group
    container = group["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "4"
    assert group["rayStartParams"]["num-gpus"] == "4"


def test_kuberay_neither_replaces_commands_nor_probes(
    renderings: dict[str, chart.Rendering],
) -> None:
    cluster = renderings["default"].of("RayCluster")
    assert cluster["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    for component in ("head", "actor"):
        container = renderings["default"].pod(component)["spec"]["containers"][0]
        assert {"livenessProbe", "readinessProbe", "startupProbe"} <= container.keys()
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    named = renderings["gpu"].of("RayCluster")["spec"]["authOptions"]
    assert named == {"mode": "token", "secretName": "sana-gateway-ray"}
    name = cluster["metadata"]["name"]
    assert len(name) <= 53


def test_redis_keeps_the_clusters_state(renderings: dict[str, chart.Rendering]) -> None:
    options = renderings["ha-redis"].of("RayCluster")["spec"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "redis.data.svc:6379"
    secret = {"secretKeyRef": {"name": "sana-redis", "key": "password"}}
    assert options["redisPassword"]["valueFrom"] == secret
    assert "gcsFaultToleranceOptions" not in renderings["default"].of("RayCluster")["spec"]


def test_probes_ask_ports_that_are_there(rendering: chart.Rendering) -> None:
    for name, template in rendering.pods():
        for container in template["spec"]["containers"]:
            ports = {each["name"] for each in container["ports"]}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(kind, {})
                asked = probe.get("httpGet") or probe.get("tcpSocket")
                assert asked is None or asked["port"] in ports, f"{name} {kind}"
            assert {"livenessProbe", "readinessProbe"} <= container.keys(), name
