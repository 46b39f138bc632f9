"""Network policies: nothing but the edges that are needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.helm import chart

pytestmark = pytest.mark.contract

COMPONENT = "app.kubernetes.io/component"


def policies(rendering: chart.Rendering) -> dict[str, Any]:
    """The policies of a rendering by component; the one for all is `""`."""
    found = [each for each in rendering.objects if each["kind"] == "NetworkPolicy"]
    return {each["spec"]["podSelector"]["matchLabels"].get(COMPONENT, ""): each for each in found}


def peers(rules: list[Any]) -> set[str]:
    """Who is in the rules: components, `dns`, a range of addresses, or `anybody`."""
    found = set()
    for rule in rules:
        sides = rule.get("from") or rule.get("to")
        for side in sides or [{}]:
            labels = side.get("podSelector", {}).get("matchLabels", {})
            if "ipBlock" in side:
                found.add(side["ipBlock"]["cidr"])
            elif labels.get("k8s-app") == "kube-dns":
                found.add("dns")
            elif COMPONENT in labels:
                found.add(labels[COMPONENT])
            elif "namespaceSelector" in side:
                found.add("monitoring")
            else:
                found.add("anybody")
    return found


def edges(rendering: chart.Rendering) -> dict[str, tuple[set[str], set[str]]]:
    """Who may reach a component, and whom it may reach."""
    return {
        name: (peers(each["spec"].get("ingress", [])), peers(each["spec"].get("egress", [])))
        for name, each in policies(rendering).items()
    }


def test_all_pods_are_refused_everything_first(renderings: dict[str, chart.Rendering]) -> None:
    for name, rendering in renderings.items():
        if name == "laptop":
            assert policies(rendering) == {}
            continue
        default = policies(rendering)[""]["spec"]
        assert default["policyTypes"] == ["Ingress", "Egress"]
        assert {"ingress", "egress"}.isdisjoint(default)
        labels = default["podSelector"]["matchLabels"].items()
        for pod, template in rendering.pods():
            assert labels <= template["metadata"]["labels"].items(), f"{name} {pod}"


def test_every_pod_has_a_policy_of_its_own(renderings: dict[str, chart.Rendering]) -> None:
    for name, rendering in renderings.items():
        if name != "laptop":
            components = {each["metadata"]["labels"][COMPONENT] for _, each in rendering.pods()}
            assert components == policies(rendering).keys() - {""}, name


def test_by_default_these_edges_are_open_and_no_others(
    renderings: dict[str, chart.Rendering],
) -> None:
    assert edges(renderings["default"]) == {
        "": (set(), set()),
        "gateway": (
            {"anybody", "monitoring", "coturn"},
            {"dns", "head", "actor", "coturn", "anybody"},
        ),
        "head": ({"gateway", "actor", "monitoring"}, {"dns", "actor", "head"}),
        "actor": ({"gateway", "head", "actor", "monitoring"}, {"dns", "head", "actor"}),
        "coturn": ({"anybody", "gateway", "coturn"}, {"dns", "gateway", "coturn"}),
    }


def test_the_relay_reaches_media_ports_of_gateways_alone(
    renderings: dict[str, chart.Rendering],
) -> None:
    rules = policies(renderings["default"])["coturn"]["spec"]["egress"]
    (media,) = (each for each in rules if peers([each]) == {"gateway"})
    assert media["ports"] == [{"port": 50000, "endPort": 50199, "protocol": "UDP"}]


def test_gateways_reach_anybody_for_turn_alone_where_all_media_are_relayed(
    renderings: dict[str, chart.Rendering],
) -> None:
    rules = policies(renderings["default"])["gateway"]["spec"]["egress"]
    (anywhere,) = (each for each in rules if "to" not in each)
    assert {each["port"] for each in anywhere["ports"]} == {3478, 5349}


def test_the_scheduler_and_the_data_plane_are_for_our_own_pods_alone(
    renderings: dict[str, chart.Rendering],
) -> None:
    for name, rendering in renderings.items():
        for component in {"head", "actor"} & policies(rendering).keys():
            reaching, _ = edges(rendering)[component]
            own = {"gateway", "head", "actor", "monitoring"}
            assert reaching <= own | ({"10.0.0.0/16"} if name == "host-network" else set())


def test_gateways_on_the_network_of_nodes_are_known_by_these(
    renderings: dict[str, chart.Rendering],
) -> None:
    for component in ("head", "actor", "coturn"):
        reaching, _ = edges(renderings["host-network"])[component]
        assert "10.0.0.0/16" in reaching


def test_only_with_its_autoscaler_the_head_reaches_kubernetes(
    renderings: dict[str, chart.Rendering],
) -> None:
    assert "0.0.0.0/0" in edges(renderings["gpu"])["head"][1]
    assert "0.0.0.0/0" not in edges(renderings["ha-redis"])["head"][1]
    assert "10.8.0.0/24" in edges(renderings["ha-redis"])["head"][1]


def test_clients_can_be_narrowed(renderings: dict[str, chart.Rendering]) -> None:
    reaching, _ = edges(renderings["gateways-only"])["gateway"]
    assert reaching == {"10.0.0.0/8", "monitoring", "coturn"}


def test_services_reach_pods_on_ports_that_these_have(rendering: chart.Rendering) -> None:
    templates = [each for _, each in rendering.pods()]
    for service in (each for each in rendering.objects if each["kind"] == "Service"):
        wanted = dict(service["spec"]["selector"])
        if "ray.io/node-type" in wanted:
            # KubeRay puts these on its pods.
            assert wanted.pop("ray.io/cluster") == rendering.of("RayCluster")["metadata"]["name"]
            wanted = {COMPONENT: wanted.pop("ray.io/node-type")}
        wanted.pop("statefulset.kubernetes.io/pod-name", None)
        (found,) = (
            each for each in templates if wanted.items() <= each["metadata"]["labels"].items()
        )
        names = {port["name"] for port in found["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in names or port["protocol"] == "UDP"


def test_neither_metrics_nor_the_operators_services_are_routed(
    renderings: dict[str, chart.Rendering],
) -> None:
    routed: set[str] = set()
    for name in ("ingress", "gateway-api"):
        for each in renderings[name].objects:
            if each["kind"] == "Ingress":
                (rule,) = each["spec"]["rules"]
                routed |= {path["path"] for path in rule["http"]["paths"]}
            if each["kind"] in {"HTTPRoute", "GRPCRoute"}:
                for match in each["spec"]["rules"][0]["matches"]:
                    routed.add(match.get("path", {}).get("value") or match["method"]["service"])
    assert {"/", "/sessions", "/whip", "sana_gateway.v1.SessionService"} <= routed
    assert not any("metrics" in each or "PoolService" in each for each in routed)
    # As a prefix it would take in all paths.
    prefixes = [
        path
        for each in renderings["ingress"].objects
        if each["kind"] == "Ingress"
        for path in each["spec"]["rules"][0]["http"]["paths"]
        if path["path"] == "/"
    ]
    assert [each["pathType"] for each in prefixes] == ["Exact"]


def test_each_gateway_behind_load_balancers_has_its_address_and_ports(
    renderings: dict[str, chart.Rendering],
) -> None:
    rendering = renderings["lb-ports"]
    media = [
        each["spec"]
        for each in rendering.objects
        if each["kind"] == "Service" and each["metadata"]["labels"][COMPONENT] == "media"
    ]
    assert [each["loadBalancerIP"] for each in media] == [
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.12",
    ]
    pods = [each["selector"]["statefulset.kubernetes.io/pod-name"] for each in media]
    assert pods == [f"rel-sana-gateway-gateway-{index}" for index in range(3)]
    assert {len(each["ports"]) for each in media} == {40}
    files = rendering.of("ConfigMap", "gateway")["data"]
    assert files.keys() == {f"{pod}.toml" for pod in pods}
    for spec, pod in zip(media, pods, strict=True):
        assert f'udp_address = "{spec["loadBalancerIP"]}"' in files[f"{pod}.toml"]
