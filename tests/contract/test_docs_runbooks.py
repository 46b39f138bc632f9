"""Every alert has its runbook, and every runbook its alert. What it tells to look at exists."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.settings import GatewaySettings
from scheduler.process.config import describe
from tests.contract import documents, repository
from tests.required import ROOT
from tools.docs import markdown
from tools.metrics_catalogue import catalogue

pytestmark = pytest.mark.contract

PAGE: Final = Path("docs/alerts.md")
CHART: Final = ROOT / "helm/sana-gateway"
PARTS: Final = ("**Means.** ", "**See it.** ", "**Do.**")


@cache
def rules() -> dict[str, dict[str, str]]:
    """Returns the alerts as the chart's template has them: what rings them, and their links."""
    text = (CHART / "alerts.yaml").read_text()
    found = {}
    for rule in text.split("- alert: ")[1:]:
        name = rule.partition("\n")[0].strip()
        fields = dict(re.findall(r"^\s+(expr|runbook_url): (.*)$", rule, re.MULTILINE))
        found[name] = fields
    return found


def sections() -> dict[str, str]:
    """Returns the runbooks by the names of their alerts."""
    return {
        each.text: documents.section(PAGE, each.anchor)
        for each in documents.headings(PAGE)
        if each.level == 3
    }


def test_alerts_and_runbooks_are_the_same() -> None:
    assert rules().keys() == sections().keys()
    assert len(rules()) > 10


@pytest.mark.parametrize("alert", rules())
def test_the_alert_links_to_its_runbook(alert: str) -> None:
    (anchor,) = re.findall(r"#(\w+)$", rules()[alert]["runbook_url"])
    (heading,) = (each for each in documents.headings(PAGE) if each.text == alert)
    assert heading.anchor == anchor


@pytest.mark.parametrize("alert", rules())
def test_a_runbook_says_what_it_means_how_to_see_it_and_what_to_do(alert: str) -> None:
    text = sections()[alert]
    at = [text.index(part) for part in PARTS]
    assert at == sorted(at)
    assert re.search(r"^1\. ", text[at[2] :], re.MULTILINE)


@pytest.mark.parametrize("alert", rules())
def test_a_runbook_names_what_rings(alert: str) -> None:
    # A metric of the rule, or a panel that shows one.
    text = sections()[alert]
    ringing = set(re.findall(r"sana_gateway_\w+?(?=_bucket|_count|\b)", rules()[alert]["expr"]))
    panels = {name for name, shown in dashboards().items() for used in shown if used in ringing}
    told = {name for name in ringing if name in text}
    assert told or any(f"*{panel}*" in text for panel in panels), (ringing, panels)


@cache
def dashboards() -> dict[str, set[str]]:
    """Returns the panels of all dashboards, with the metrics that each shows."""
    found: dict[str, set[str]] = {}
    for path in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            queries = json.dumps(panel.get("targets", []))
            used = re.findall(r"sana_gateway_\w+?(?=_bucket|_count|_sum|\b)", queries)
            found.setdefault(panel["title"], set()).update(used)
    return found


def titles() -> set[str]:
    files = (CHART / "dashboards").glob("*.json")
    return {json.loads(path.read_text())["title"].partition(": ")[2] for path in files}


def test_dashboards_and_panels_exist() -> None:
    text = documents.text(PAGE)
    named = re.findall(r"\b[Dd]ashboard \*([^*]+)\*", text)
    assert named
    assert set(named) <= titles()
    panels = [
        panel
        for run in re.findall(r"\b[Pp]anels? (\*[^*]+\*(?:[^*.;\n]* and \*[^*]+\*)?)", text)
        for panel in re.findall(r"\*([^*]+)\*", run)
    ]
    assert len(panels) > 15
    assert set(panels) <= dashboards().keys()


def test_metrics_exist() -> None:
    known = {name for each in catalogue() for name in (each.name, *each.exposed)}
    named = set(re.findall(r"sana_gateway_\w+", documents.text(PAGE)))
    assert named
    assert named <= known


@cache
def values() -> Any:
    """Returns the values of the chart."""
    return yaml.safe_load((CHART / "values.yaml").read_text())


def is_value(path: str) -> bool:
    """Tells whether the chart has a value; what it is part of may be left out."""
    above = ["", *(f"{top}." for top in values()), "monitoring.rules."]
    return any(_has(values(), f"{each}{path}".split(".")) for each in above)


def _has(found: Any, names: list[str]) -> bool:
    if not names:
        return True
    return isinstance(found, dict) and names[0] in found and _has(found[names[0]], names[1:])


@cache
def settings() -> set[str]:
    """Returns the settings of gateways by their dotted names."""
    return {each.key for each in describe(GatewaySettings)}


@cache
def logged() -> str:
    """Returns the sources whose processes write logs."""
    product = ("gateway", "model_actor", "scheduler", "sdk_adapters")
    paths = [path for path in repository.python_files() if path.parts[0] in product]
    return "\n".join((ROOT / path).read_text() for path in paths)


@pytest.mark.parametrize(
    "page", [PAGE, Path("docs/kubernetes.md"), Path("docs/sizing.md")], ids=str
)
def test_values_settings_and_lines_of_the_log_exist(page: Path) -> None:
    looked_at = 0
    for code, line in markdown.spans(documents.text(page)):
        name = re.split(r"[:=]", code)[0]
        if not re.fullmatch(r"[a-z]\w*(\.\w+)+", name):
            continue
        looked_at += 1
        known = is_value(name) or name in settings() or f'"{name}"' in logged()
        file = any(path.name == name for path in repository.files())
        assert known or file or name.startswith(FOREIGN), f"{page}:{line}: {code}"
    assert looked_at > 5


FOREIGN: Final = ("nginx.", "cert-manager.", "monitoring.coreos.com", "ray.io", "keys.yaml", "tls.")
"""Names of others, and files that operators make."""
