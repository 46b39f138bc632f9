"""What the kubelet makes of a container: its command line and its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_VARIABLE: Final = re.compile(r"\$\((?P<name>[A-Za-z_][A-Za-z0-9_]*)\)|\$\$")


def expanded(word: str, environment: Mapping[str, str]) -> str:
    """Puts variables into a word, as Kubernetes does; unknown ones stay as they are."""

    def put(found: re.Match[str]) -> str:
        name = found["name"]
        return "$" if name is None else environment.get(name, found[0])

    return _VARIABLE.sub(put, word)


def environment(container: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of a container.

    Args:
        container: Of a manifest.
        fields: What the cluster knows of the pod, by path (`status.podIP`), and secrets, by
            `NAME/KEY`.
    """
    made: dict[str, str] = {}
    for each in container.get("env", ()):
        source = each.get("valueFrom", {})
        if "fieldRef" in source:
            made[each["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            made[each["name"]] = fields[f"{reference['name']}/{reference['key']}"]
        else:
            made[each["name"]] = expanded(each.get("value", ""), made)
    return made


def command_line(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Returns the words that a container is started with."""
    words = (*container["command"], *container.get("args", ()))
    return [expanded(word, variables) for word in words]
