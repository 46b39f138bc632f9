"""The chart as tests see it: rendered once, by Helm's own engine, and cached by its content."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.required import ROOT, require

CHART: Final = ROOT / "helm/sana-gateway"
ENGINE: Final = ROOT / "tests/contract/helm/engine.py"
PYTHON: Final = ".venvs/helm/bin/python"
OLDEST: Final = "1.29"
NEWEST: Final = "1.37"
KUBERAY: Final = ROOT / "../shared/fixtures/kuberay/ray.io_rayclusters.yaml"
NAMESPACE: Final = "video"
LIMIT_S: Final = 120

Json = dict[str, Any]


@dataclass(frozen=True)
class Rendering:
    """What came of a set of values."""

    objects: list[Json]
    notes: str
    problems: Mapping[str, list[str]]
    """What schemas find wrong, by version and object."""
    unknown: list[str]
    """Kinds that there is no schema for."""
    lint: list[Json]

    def of(self, kind: str, component: str = "") -> Json:
        """Returns the one object of a kind, and of a component where there are several."""
        found = [
            each
            for each in self.objects
            if each["kind"] == kind
            and (
                not component
                or each["metadata"]["labels"].get("app.kubernetes.io/component") == component
            )
        ]
        (one,) = found
        return one

    def pods(self) -> Iterator[tuple[str, Json]]:
        """Yields the pods that come of it: name, and what a pod template holds."""
        for each in self.objects:
            name, spec = each["metadata"]["name"], each.get("spec", {})
            if each["kind"] in {"Deployment", "StatefulSet"}:
                yield name, spec["template"]
            elif each["kind"] == "RayCluster":
                yield f"{name}-head", spec["headGroupSpec"]["template"]
                for group in spec["workerGroupSpecs"]:
                    yield f"{name}-{group['groupName']}", group["template"]

    def containers(self) -> Iterator[tuple[str, Json]]:
        """Yields all containers, those that go before others included."""
        for name, template in self.pods():
            for each in (*template["spec"].get("initContainers", ()), *_own(template)):
                yield f"{name}/{each['name']}", each

    def pod(self, component: str) -> Json:
        """Returns the template of a component's pods."""
        key = "app.kubernetes.io/component"
        (one,) = (
            each for _, each in self.pods() if each["metadata"]["labels"].get(key) == component
        )
        return one


def _own(template: Json) -> list[Json]:
    return list(template["spec"]["containers"])


def value_sets() -> dict[str, Json]:
    """Returns the sets of values in `ci/`, by name."""
    return {
        path.stem.removesuffix("-values"): yaml.safe_load(path.read_text())
        for path in sorted((CHART / "ci").glob("*-values.yaml"))
    }


def names_of_sets() -> list[str]:
    """Returns their names, without reading them."""
    return sorted(
        path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml")
    )


def merged(*layers: Json) -> Json:
    """Returns values with others on top, as Helm puts them together."""
    result: Json = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(value, dict) and isinstance(old, dict)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def run(sets: Mapping[str, Json], refused: Mapping[str, Json] | None = None) -> Json:
    """Renders and examines sets of values, unless that was done before for just this."""
    crds = {"RayCluster": str(KUBERAY.resolve())} if KUBERAY.exists() else {}
    job = json.dumps(
        {"sets": sets, "refused": refused or {}, "versions": [OLDEST, NEWEST], "crds": crds},
        sort_keys=True,
    )
    folder = ROOT / ".cache/helm" / _digest(job)
    folder.mkdir(parents=True, exist_ok=True)
    # Several workers of xdist come here at once; one does the work.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = folder / "result.json"
        if not result.exists():
            command = [require(PYTHON), ENGINE, CHART, folder]
            done = subprocess.run(
                command, input=job, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(result.read_text())  # type: ignore[no-any-return]


@functools.cache
def _chart_digest() -> str:
    total = hashlib.sha256()
    for path in sorted((*CHART.rglob("*"), ENGINE, ROOT / "tests/venvs/helm.txt")):
        if path.is_file():
            total.update(os.fsencode(path.relative_to(ROOT)) + b"\0" + path.read_bytes() + b"\0")
    if KUBERAY.exists():
        total.update(KUBERAY.read_bytes())
    return total.hexdigest()


def _digest(job: str) -> str:
    return hashlib.sha256(f"{_chart_digest()}\0{job}".encode()).hexdigest()[:16]


def rendered(result: Json) -> dict[str, Rendering]:
    """Returns the renderings of a result."""
    return {name: Rendering(**each) for name, each in result["sets"].items()}
