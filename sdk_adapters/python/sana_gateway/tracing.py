"""What goes into the metadata of every call: the token, and the caller's trace."""

from __future__ import annotations

from importlib import import_module
from typing import Any

Metadata = tuple[tuple[str, str], ...]


def metadata(token: str | None, api_key: str | None = None) -> Metadata:
    """Returns the metadata of a call made now.

    Where OpenTelemetry is installed, the current span becomes the parent of the
    service's (W3C Trace Context).

    Args:
        token: Bearer token, if any.
        api_key: API key, if any.
    """
    carrier: dict[str, str] = {}
    if api_key is not None:
        carrier["x-api-key"] = api_key
    if token is not None:
        carrier["authorization"] = f"Bearer {token}"
    if _PROPAGATE is not None:
        _PROPAGATE.inject(carrier)
    return tuple(carrier.items())


def traceparent() -> str:
    """Returns the W3C trace context of the caller; empty where there is none."""
    return dict(metadata(None)).get("traceparent", "")


def _propagation() -> Any:  # noqa: ANN401 - an optional module
    try:
        return import_module("opentelemetry.propagate")
    except ImportError:
        return None


_PROPAGATE = _propagation()
