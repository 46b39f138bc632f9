"""What pods may do: nothing that they do not need."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.contract.helm import chart

pytestmark = pytest.mark.contract

SECRET_NAMES = re.compile(r"token|secret|password|key|credential", re.IGNORECASE)
NO_SECRETS = {"RAY_AUTH_MODE"}


def test_containers_are_nobody_and_can_become_nobody_else(rendering: chart.Rendering) -> None:
    for name, container in rendering.containers():
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert "privileged" not in context, name


def test_pods_are_nobody(rendering: chart.Rendering) -> None:
    for name, template in rendering.pods():
        context = template["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert {"hostPID", "hostIPC"}.isdisjoint(template["spec"]), name


def test_only_gateways_ever_share_the_network_of_their_node(
    renderings: dict[str, chart.Rendering],
) -> None:
    sharing = {
        (each, name)
        for each, rendering in renderings.items()
        for name, template in rendering.pods()
        if template["spec"].get("hostNetwork")
    }
    assert sharing == {
        ("host-network", "rel-sana-gateway-gateway"),
        ("laptop", "rel-sana-gateway-gateway"),
    }


def test_the_autoscaler_is_restricted_like_all_containers(
    renderings: dict[str, chart.Rendering],
) -> None:
    cluster = renderings["gpu"].of("RayCluster")["spec"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert cluster["autoscalerOptions"]["securityContext"] == head["securityContext"]


def test_no_container_but_the_autoscaler_talks_to_kubernetes(
    renderings: dict[str, chart.Rendering], rendering: chart.Rendering
) -> None:
    accounts = [each for each in rendering.objects if each["kind"] == "ServiceAccount"]
    assert accounts
    assert all(each["automountServiceAccountToken"] is False for each in accounts)
    named = {each["metadata"]["name"] for each in accounts}
    for name, template in rendering.pods():
        assert template["spec"]["automountServiceAccountToken"] is False, name
        assert template["spec"]["serviceAccountName"] in named, name
    for name, container in rendering.containers():
        mounted = [each["mountPath"] for each in container.get("volumeMounts", ())]
        assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounted, name
    options = renderings["gpu"].of("RayCluster")["spec"]["autoscalerOptions"]
    assert "kubernetes-token" in [each["name"] for each in options["volumeMounts"]]


def test_images_do_not_move(rendering: chart.Rendering) -> None:
    for name, container in rendering.containers():
        image = container["image"]
        assert re.search(r":[A-Za-z0-9._-]*\d[A-Za-z0-9._-]*$|@sha256:[0-9a-f]{64}$", image), name


def test_coturn_is_new_enough_not_to_leak(renderings: dict[str, chart.Rendering]) -> None:
    _, _, tag = (
        renderings["default"].pod("coturn")["spec"]["containers"][0]["image"].rpartition(":")
    )
    assert tuple(int(each) for each in tag.split(".")) >= (4, 13, 1)


def test_every_container_says_what_it_takes(rendering: chart.Rendering) -> None:
    for name, container in rendering.containers():
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), name
        assert "memory" in resources["limits"], name


def test_every_writable_folder_is_bounded(rendering: chart.Rendering) -> None:
    for name, template in rendering.pods():
        for volume in template["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], f"{name}/{volume['name']}"


def test_no_secret_stands_in_what_is_rendered(rendering: chart.Rendering) -> None:
    assert all(each["kind"] != "Secret" for each in rendering.objects)
    for name, container in rendering.containers():
        for variable in container.get("env", ()):
            if SECRET_NAMES.search(variable["name"]) and variable["name"] not in NO_SECRETS:
                assert "secretKeyRef" in variable["valueFrom"], f"{name} {variable['name']}"
        words = [*container["command"], *container.get("args", ())]
        for word in words:
            option, _, value = word.partition("=")
            if SECRET_NAMES.search(option):
                # A variable, a file, or only an option of that name.
                assert value.startswith(("$(", "/")) or not value, f"{name} {option}"


def test_no_value_asks_for_a_secret_itself() -> None:
    def leaves(part: Any, path: str) -> list[tuple[str, Any]]:
        if isinstance(part, dict):
            return [each for name in part for each in leaves(part[name], f"{path}.{name}")]
        return [(path, part)]

    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    for path, value in leaves(values, ""):
        last = path.rpartition(".")[2]
        if SECRET_NAMES.search(last) and isinstance(value, str):
            # Names of secrets, keys in them, and where they are mounted.
            assert re.search(r"(SecretName|secretName|[kK]ey|topologyKeys|secrets)$", last), path


def test_secrets_are_read_by_the_pods_group_alone(rendering: chart.Rendering) -> None:
    for name, template in rendering.pods():
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440, f"{name}/{volume['name']}"
