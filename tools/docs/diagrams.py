"""The drawings and tables of `docs/concepts.md`, from the tables and calls in the code."""

from __future__ import annotations

import ast
import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from gateway.connection import TRANSITIONS, Status
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler.core import diagram
from scheduler.core.lease import LeaseState
from tools.docs import protobuf
from tools.docs.markdown import table

ROOT: Final = Path(__file__).resolve().parents[2]
PROCESSES: Final = {"gateway": "gateway", "model_actor": "model actor", "scheduler": "scheduler"}
"""Which process the code of a folder runs in."""
SERVED_BY: Final = {"Placement": "scheduler", "Stream": "model actor"}
"""Which process answers the calls of a service between our processes."""
PLANES: Final = {"Placement": "control", "Stream": "data"}
_INTERNAL: Final = tuple(
    service
    for file in (placement_pb2.DESCRIPTOR, stream_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
)
_NODES: Final = {"client": "C[client]", "gateway": "G[gateway]", "scheduler": "S[scheduler]"} | {
    "model actor": "A[model actor]"
}


def connection() -> str:
    """Returns the machine of a connection as a Mermaid state diagram."""
    arrows = [
        (before.value, after.value, event.value)
        for (before, event), after in TRANSITIONS.items()
        if before is not after
    ]
    return diagram.state_diagram(Status.DISCONNECTED.value, arrows)


def planes() -> str:
    """Returns who calls whom, as a Mermaid flow chart and a table of the calls."""
    edges = list(_edges())
    services: dict[tuple[str, str, str], list[str]] = {}
    for caller, plane, service, answers, _ in edges:
        services.setdefault((caller, plane, answers), []).append(service)
    lines = ["```mermaid", "flowchart LR"]
    for (caller, plane, answers), named in services.items():
        told = "<br/>".join((f"{plane}:", *named))
        lines.append(f'    {_NODES[caller]} -- "{told}" --> {_NODES[answers]}')
    lines += [f'    {_NODES["client"]} <-- "media:<br/>WebRTC" --> {_NODES["gateway"]}', "```", ""]
    rows = (
        (plane, caller, answers, f"`{service}`", ", ".join(f"`{call}`" for call in calls))
        for caller, plane, service, answers, calls in edges
    )
    return "\n".join((*lines, *table(("Plane", "From", "To", "Service", "Calls"), rows)))


def callers(service: ServiceDescriptor) -> dict[str, list[str]]:
    """Returns which process makes which calls of a service, as the code has it."""
    found: dict[str, list[str]] = {}
    for folder, process in PROCESSES.items():
        sources = [path.read_text() for path in sorted((ROOT / folder).rglob("*.py"))]
        asking = "\n".join(source for source in sources if f"_grpc.{service.name}Stub(" in source)
        made = [name for name in service.methods_by_name if re.search(rf"stub\.{name}\b", asking)]
        if made:
            found[process] = made
    return found


def _edges() -> Iterator[tuple[str, str, str, str, list[str]]]:
    """Yields caller, plane, service, who answers, and the calls."""
    for file in protobuf.files():
        for service in file.service:
            yield (
                "client", "public", service.name, "gateway", [each.name for each in service.method]
            )  # fmt: skip
    for inner in _INTERNAL:
        for caller, calls in callers(inner).items():
            yield caller, PLANES[inner.name], inner.name, SERVED_BY[inner.name], calls


def meanings(states: type[enum.Enum]) -> str:
    """Returns a table of the members of an enumeration and what is said below each."""
    (defined,) = ast.parse(inspect.getsource(states)).body
    assert isinstance(defined, ast.ClassDef)  # noqa: S101 - `getsource` of a class
    rows = []
    for member, below in zip(defined.body, [*defined.body[1:], None], strict=True):
        if isinstance(member, ast.Assign) and isinstance(member.value, ast.Constant):
            said = below.value if isinstance(below, ast.Expr) else None
            told = said.value if isinstance(said, ast.Constant) else ""
            rows.append((f"`{member.value.value!s}`", str(told)))
    return "\n".join(table(("State", "Meaning"), rows))


DRAWINGS: Final[diagram.Drawings] = {
    **diagram.DRAWINGS,
    "lease-states": lambda: meanings(LeaseState),
    "connection-diagram": connection,
    "connection-states": lambda: meanings(Status),
    "planes-diagram": planes,
}
