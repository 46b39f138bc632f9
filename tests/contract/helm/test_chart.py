"""The chart renders, and what it renders is what Kubernetes and KubeRay take."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.contract.helm import chart
from tests.contract.helm.refusals import REFUSED
from tests.required import ROOT
from tools import chart_values

pytestmark = pytest.mark.contract

WITHOUT_SCHEMA = {
    "Certificate",
    "GRPCRoute",
    "HTTPRoute",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
}
"""Kinds of others whose schemas are not here; the chart's README says so."""


def test_lint_has_nothing_to_say(rendering: chart.Rendering) -> None:
    assert rendering.lint == []


def test_all_objects_fit_the_strict_schemas_of_the_oldest_and_newest_kubernetes(
    rendering: chart.Rendering,
) -> None:
    assert rendering.problems == {}
    assert set(rendering.unknown) - {"RayCluster"} <= WITHOUT_SCHEMA


def test_the_cluster_fits_kuberays_own_schema(renderings: dict[str, chart.Rendering]) -> None:
    if not chart.KUBERAY.exists():
        pytest.skip("KubeRay's schema is not here: ../shared/fixtures/kuberay")
    with_ray = [each for each in renderings.values() if each.objects and "RayCluster" in str(each)]
    assert len(with_ray) > 5
    assert all("RayCluster" not in each.unknown for each in with_ray)


def test_a_field_that_kubernetes_does_not_know_is_found(result: chart.Json) -> None:
    problems = str(result["sets"]["misspelt"]["problems"])
    assert "'operater' was unexpected" in problems
    assert not chart.KUBERAY.exists() or "'nodeAffinty' was unexpected" in problems


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused_with_what_is_wrong(name: str, result: chart.Json) -> None:
    assert result["refused"][name], "accepted"
    kind, text = result["refused"][name]
    assert REFUSED[name][1] in text
    by_schema = "at '/" in text or "additional properties" in text
    assert kind == ("HelmValuesError" if by_schema else "HelmRenderError")


def test_every_value_has_a_schema_and_every_schema_a_value() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())

    def paths(part: Any, above: str = "") -> set[str]:
        """Names of a schema's fixed properties."""
        found = set()
        for name, each in part.get("properties", {}).items():
            found |= {f"{above}{name}"} | paths(each, f"{above}{name}.")
        return found

    def leaves(part: Any, known: set[str], above: str = "") -> set[str]:
        found = set()
        for name, each in part.items():
            path = f"{above}{name}"
            found.add(path)
            inside = any(each_known.startswith(f"{path}.") for each_known in known)
            if isinstance(each, dict) and inside:
                found |= leaves(each, known, f"{path}.")
        return found

    known = paths(schema)
    # An issuer's fields have no default; `global` is Helm's own.
    extra = {"global", *(f"tls.certManager.issuerRef.{name}" for name in ("name", "kind", "group"))}
    assert leaves(values, known) == known - extra


def test_an_object_of_fixed_names_takes_no_others() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())

    def open_ended(part: Any, path: str) -> list[str]:
        if not isinstance(part, dict):
            return []
        here = [path] if "properties" in part and part.get("additionalProperties", True) else []
        return here + [
            found
            for name, each in part.get("properties", {}).items()
            for found in open_ended(each, f"{path}/{name}")
        ]

    assert open_ended(schema, "") == []


def test_the_readmes_table_is_that_of_the_values() -> None:
    page = (chart.CHART / "README.md").read_text()
    assert chart_values.page(page) == page, "run `python -m tools.chart_values --write`"


def test_the_chart_is_of_the_version_of_the_code() -> None:
    meta = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert f'version = "{meta["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
    assert meta["kubeVersion"] == f">={chart.OLDEST}.0-0 <1.{int(chart.NEWEST[2:]) + 1}.0-0"


def test_what_must_be_made_beside_the_chart_is_told(rendering: chart.Rendering) -> None:
    wanted = set()
    for _, template in rendering.pods():
        for volume in template["spec"].get("volumes", ()):
            wanted.add(volume.get("secret", {}).get("secretName"))
    for _, container in rendering.containers():
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
            wanted.add(reference.get("name"))
    wanted -= {None, "turn-cert"}  # that of coturn is its own
    assert [name for name in wanted if name not in rendering.notes] == []
