"""Runs Helm's engine on the chart, in the environment `.venvs/helm`.

Usage: engine.py CHART FOLDER < JOB

The job, as JSON, is `{"sets": {NAME: VALUES}, "refused": {NAME: VALUES}, "versions": [...],
"crds": {"KIND": PATH}}`. Writes `FOLDER/result.json`: by name of a set, the manifests by
template, the findings of lint, and what the schemas of Kubernetes (and of the kinds in `crds`)
say of each object; by name of what is to be refused, the error's kind and text.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate.utils as kubernetes
import yaml
from referencing import Registry, Resource

RELEASE = {"name": "rel", "namespace": "video"}
Json = dict[str, Any]
Loader = yaml.CSafeLoader
"""In C: KubeRay's schema has a megabyte."""


@functools.cache
def kubernetes_schema(version: str, kind: str, api: str) -> jsonschema.Draft202012Validator | None:
    """Returns the strict schema of a kind; None if Kubernetes itself has no such kind."""
    group, _, number = api.rpartition("/")
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    name = f"{kind.lower()}-{group.partition('.')[0]}-{number}".replace("--", "-")
    name = name if group else f"{kind.lower()}-{number}"
    try:
        schema = kubernetes.schema_contents(f"{folder}/{name}.json", version)
    except FileNotFoundError:
        return None
    return jsonschema.Draft202012Validator(schema, registry=definitions(folder, version))


@functools.cache
def definitions(folder: str, version: str) -> Registry:
    """Returns what the schemas of a version have in common: large, and read once."""
    contents = kubernetes.schema_contents(f"{folder}/_definitions.json", version)
    return Resource.from_contents(contents) @ Registry()


def strict(schema: Json) -> Json:
    """Makes a schema of a custom resource refuse fields that it does not know, as servers do."""
    result = dict(schema)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    for key in ("properties",):
        if key in schema:
            result[key] = {name: strict(each) for name, each in schema[key].items()}
            if not open_ended:
                result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = strict(schema[key])
    return result


@functools.cache
def custom_schema(path: str, number: str) -> jsonschema.Draft202012Validator:
    """Returns the strict schema of one version of a custom resource."""
    definition = yaml.load(Path(path).read_text(), Loader)  # noqa: S506 - a safe one
    (found,) = (each for each in definition["spec"]["versions"] if each["name"] == number)
    schema = strict(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def check(document: Json, version: str, crds: dict[str, str]) -> list[str] | None:
    """Returns what is wrong with an object; None if there is no schema for it."""
    kind, api = document["kind"], document["apiVersion"]
    if kind in crds:
        validator = custom_schema(crds[kind], api.rpartition("/")[2])
    else:
        found = kubernetes_schema(version, kind, api)
        if found is None:
            return None
        validator = found
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(document)
    ]


def objects(manifests: dict[str, str]) -> list[Json]:
    """Returns the objects of a rendering."""
    texts = (text for name, text in manifests.items() if name.endswith(".yaml"))
    return [each for text in texts for each in yaml.load_all(text, Loader) if each]


def examine(chart: helm_python.Chart, path: str, values: Json, job: Json) -> Json:
    """Renders a set of values and looks at what comes of it."""
    manifests = chart.render(values, **RELEASE)
    found = objects(manifests)
    problems, unknown = {}, set()
    for version in job["versions"]:
        for document in found:
            wrong = check(document, version, job["crds"])
            if wrong is None:
                unknown.add(document["kind"])
            elif wrong:
                name = f"{version} {document['kind']}/{document['metadata']['name']}"
                problems[name] = wrong
    lints = [
        message
        for version in job["versions"]
        for message in helm_python.lint(
            path, values, strict=True, namespace=RELEASE["namespace"], kube_version=f"v{version}.0"
        )["messages"]
        if message["severity"] > 1
    ]
    return {
        "objects": found,
        "notes": next(text for name, text in manifests.items() if name.endswith("NOTES.txt")),
        "problems": problems,
        "unknown": sorted(unknown),
        "lint": lints,
    }


def refusal(chart: helm_python.Chart, values: Json) -> list[str]:
    """Returns kind and text of the error that values are refused with; empty if they are not."""
    try:
        chart.render(values, **RELEASE)
    except helm_python.HelmError as error:
        return [type(error).__name__, str(error)]
    return []


def main(path: str, folder: str) -> None:
    """Does the job."""
    job = json.load(sys.stdin)
    chart = helm_python.Chart.load(path)
    result = {
        "sets": {name: examine(chart, path, each, job) for name, each in job["sets"].items()},
        "refused": {name: refusal(chart, each) for name, each in job["refused"].items()},
    }
    Path(folder, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
