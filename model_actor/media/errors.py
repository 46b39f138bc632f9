"""What can be wrong with a clip, beside the tree in `scheduler.core.errors`.

SanaGatewayError
+-- ClipRefusedError     the clip cannot be used; the text says what is allowed
+-- ClipFailedError      a clip that was accepted can be decoded no further
+-- WorkerLostError      a decode worker died or was killed; inside this package only
"""

from __future__ import annotations

from scheduler.core.errors import SanaGatewayError


class ClipRefusedError(SanaGatewayError):
    """The clip cannot be used. The text is for people and names no file."""


class ClipFailedError(SanaGatewayError):
    """A clip that was accepted can be decoded no further."""


class WorkerLostError(SanaGatewayError):
    """A decode worker ended, was killed or broke its protocol."""
