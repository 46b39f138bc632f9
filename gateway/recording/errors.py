"""Why there is no clip."""

from __future__ import annotations

from scheduler.core.errors import SanaGatewayError


class ClipFailedError(SanaGatewayError):
    """There is no clip; the text is what the client is told."""


class ClipUnknownError(SanaGatewayError):
    """Nothing is kept of such a session, or it is not the caller's."""


class ClipGoneError(SanaGatewayError):
    """What was asked for is not kept any more."""


class ClipPendingError(SanaGatewayError):
    """The end of what was asked for is not stored yet."""


class ClipBusyError(SanaGatewayError):
    """Too many files of recordings are being read."""
