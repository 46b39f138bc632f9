"""What Reactor clients are shown of a session: the objects of the HTTP routes."""

from __future__ import annotations

from typing import Any, Final

from sana_gateway.v1 import session_pb2
from sdk_adapters.reactor import openapi

_STATES: Final = {
    session_pb2.SESSION_STATUS_WAITING: "PENDING",
    session_pb2.SESSION_STATUS_READY: "ACTIVE",
    session_pb2.SESSION_STATUS_CLOSED: "CLOSED",
}


def slim(described: session_pb2.Session) -> dict[str, Any]:
    """Returns a session object without what is known once the session has its place."""
    return {
        "session_id": described.session_id,
        "state": _STATES.get(described.status, "PENDING"),
        "cluster": "local",
        "model": {"name": described.model},
        "server_info": {"server_version": openapi.VERSION},
    }


def full(described: session_pb2.Session) -> dict[str, Any]:
    """Returns a session object; clients poll until it shows transport and capabilities."""
    if described.status != session_pb2.SESSION_STATUS_READY:
        return slim(described) | _queue(described)
    return slim(described) | {
        "selected_transport": {"protocol": "webrtc", "version": "1.0"},
        "capabilities": capabilities(described.capabilities),
    }


def _queue(described: session_pb2.Session) -> dict[str, Any]:
    """Returns the place in the queue, which our own clients show; empty without one."""
    if not described.queue_position:
        return {}
    estimated = described.HasField("estimated_wait")
    eta_s = described.estimated_wait.ToMilliseconds() / 1e3 if estimated else None
    return {"queue": {"position": described.queue_position, "eta_seconds": eta_s}}


def capabilities(described: session_pb2.Capabilities) -> dict[str, Any]:
    """Returns the `capabilities` of a session object."""
    return {
        "protocol_version": "1.0",
        "tracks": openapi.tracks(described),
        "commands": [
            {"name": name, "description": words.summary}
            for name, words in openapi.commands(described)
        ],
        "emission_fps": described.frame_rate,
    }
