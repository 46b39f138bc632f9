"""What can be wrong with a clip, beside the tree in `scheduler.core.errors`.

RequestError
+-- ClipRefusedError     the clip cannot be used; the text says what is allowed
SanaGatewayError
+-- ClipFailedError      a clip that was accepted can be decoded no further
+-- WorkerLostError      a decode worker died or was killed; inside this package only
"""

from __future__ import annotations

from scheduler.core.errors import RequestError, SanaGatewayError


class ClipRefusedError(RequestError):
    """The clip cannot be used. The text is for people and names no file."""

    reason = "BAD_ARGUMENT"


class ClipFailedError(SanaGatewayError):
    """A clip that was accepted can be decoded no further."""


class WorkerLostError(SanaGatewayError):
    """A decode worker ended, was killed or broke its protocol."""
