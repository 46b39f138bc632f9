"""The one tree of errors.

    SanaGatewayError                 ours: something that should not have happened
    +-- InvariantError               our own code called a core in an impossible way
    +-- PluginError                  a plugin is missing, broken or of the wrong shape
    +-- ConfigurationError           the settings make no sense together
    +-- AskedElsewhereError          another gateway has asked for a session's place since
    +-- RequestError                 a caller's mistake or a limit; each wire has a status for it
        +-- UnknownSessionError      no such session, or not one of the caller's
        +-- UnknownModelError        the model is not served here
        +-- NoCapacityError          the queue is full
        +-- BadArgumentError         a field is missing or wrong
        +-- UnauthenticatedError     the token is missing, wrong or expired
        +-- ForbiddenError           the token does not allow this
        +-- SessionClosedError       the session has ended
        +-- NotReadyError            the session still waits for its place
        +-- UnknownUploadError       no such upload, or not one of this session's
        +-- BadUploadError           the bytes do not match the announced size or offset
        +-- PublisherTakenError      another connection publishes this track already
        +-- BadOfferError            the offer has no video, or no codec that we speak
        +-- LimitError               a limit of the service was reached
        +-- CommandRefusedError      a session refused the one command of a call

A client's mistake inside a session is not an exception but a `command_error` event. Only
where a call carries one command and nothing else is its refusal the call's own.
Texts never contain prompts, file names or other user content.
"""

from __future__ import annotations

from scheduler.core.commands import RejectReason
from scheduler.core.messages import Phase


class SanaGatewayError(Exception):
    """Root of all errors raised by this project."""


class InvariantError(SanaGatewayError):
    """Our own code called a core in a way its rules exclude."""


class PluginError(SanaGatewayError):
    """A plugin is missing, failed to load or has the wrong shape."""


class ConfigurationError(SanaGatewayError):
    """The settings make no sense together; the text says which to change."""


class AskedElsewhereError(SanaGatewayError):
    """Another gateway has asked for the place of the session since. Between gateways and the
    scheduler alone: the place is the other one's to get, and to be found there.
    """

    reason = "ASKED_ELSEWHERE"
    """Stands for it on the internal wire."""


class RequestError(SanaGatewayError):
    """A caller's mistake, or a limit it ran into."""

    reason: str = "UNSPECIFIED"
    """Name of the `sana_gateway.v1.ErrorReason` without its prefix."""

    def __init__(self, text: str, *, retry_after_s: float | None = None) -> None:
        """Stores what went wrong, for people, and when trying again makes sense."""
        super().__init__(text)
        self.retry_after_s = retry_after_s


class UnknownSessionError(RequestError):
    """No such session, or not one of the caller's: the two are told apart by nobody."""

    reason = "UNKNOWN_SESSION"


class UnknownModelError(RequestError):
    """The model is not served here."""

    reason = "UNKNOWN_MODEL"

    def __init__(self, served: tuple[str, ...]) -> None:
        """Stores the names that are served."""
        names = ", ".join(served) or "none"
        super().__init__(f"this model is not served here; served: {names}")
        self.served = served


class NoCapacityError(RequestError):
    """The queue is full."""

    reason = "NO_CAPACITY"


class BadArgumentError(RequestError):
    """A field is missing or wrong."""

    reason = "BAD_ARGUMENT"


class UnauthenticatedError(RequestError):
    """The token is missing, wrong or expired."""

    reason = "UNAUTHENTICATED"


class ForbiddenError(RequestError):
    """The token does not allow this."""

    reason = "FORBIDDEN"


class SessionClosedError(RequestError):
    """The session has ended."""

    reason = "SESSION_CLOSED"


class NotReadyError(RequestError):
    """The session still waits for its place on an actor."""

    reason = "NOT_READY"


class UnknownUploadError(RequestError):
    """No such upload, or not one of this session's."""

    reason = "UNKNOWN_UPLOAD"


class BadUploadError(RequestError):
    """The bytes sent do not match the announced size or offset."""

    reason = "BAD_UPLOAD"


class PublisherTakenError(RequestError):
    """Another connection publishes this track already."""

    reason = "PUBLISHER_TAKEN"


class BadOfferError(RequestError):
    """The offer has no video, or no codec that we speak."""

    reason = "BAD_OFFER"


class LimitError(RequestError):
    """A limit of the service was reached."""

    reason = "LIMIT"

    def __init__(self, text: str, *, retry_after_s: float | None = None, quota: str = "") -> None:
        """Stores which limit, for people and for programs.

        Args:
            text: Which, and how large it is.
            retry_after_s: When trying again makes sense; None when it is not known.
            quota: Name of the quota (docs/limits.md); empty for a bound that nobody configures.
        """
        super().__init__(text, retry_after_s=retry_after_s)
        self.quota = quota


class CommandRefusedError(RequestError):
    """A session refused the one command of a call; nothing changed."""

    reason = "COMMAND_REFUSED"
    """Stands for refusals whose cause is not known; else it is the name of `code`."""

    def __init__(
        self,
        text: str,
        *,
        command: str = "",
        code: RejectReason | None = None,
        phase: Phase | None = None,
        allowed_phases: tuple[Phase, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Stores what the session said.

        Args:
            text: Why and what to do, for people.
            command: Name of the command.
            code: Why, for programs; None when it is not known.
            phase: Phase the session was in, where known.
            allowed_phases: Where the command is allowed; empty when the phase is not the cause.
            retry_after_s: When trying again makes sense; None when it does not.
        """
        super().__init__(text, retry_after_s=retry_after_s)
        self.command = command
        self.code = code
        self.phase = phase
        self.allowed_phases = allowed_phases
        if code is not None:
            self.reason = code.name
