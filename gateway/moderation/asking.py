"""Asks a moderator, within a time; and keeps the order of commands while it thinks."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from gateway.moderation import NOT_ALLOWED, Moderator, Question, Running, Verdict
from gateway.ports import CommandLike
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.process.telemetry import context_from, span

LONGEST_REASON: Final = 200
"""Characters of a reason that a client is told."""
UNANSWERED: Final = "the prompt could not be checked; try again"

Policy = Literal["refuse", "allow"]
"""What becomes of a prompt that was not judged."""

_CHECKS = Counter(
    "sana_gateway_moderation_checks", "Prompts that a moderator was asked about.", ("outcome",)
)
_SECONDS = Histogram(
    "sana_gateway_moderation_seconds",
    "Time that a prompt waited for its moderator.",
    buckets=(0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0),
)
_log = structlog.get_logger(__name__)


class Moderation:
    """A moderator, and what holds when it does not answer.

    Args:
        moderator: Who judges.
        timeout_s: How long it may take.
        on_failure: What becomes of a prompt when it fails or takes longer.
    """

    def __init__(
        self, moderator: Moderator, *, timeout_s: float = 2.0, on_failure: Policy = "refuse"
    ) -> None:
        self._moderator = moderator
        self._timeout_s = timeout_s
        self._on_failure = on_failure
        self._is_failing = False

    async def run(self) -> None:
        """Does what the moderator does by itself, until cancelled."""
        moderator: object = self._moderator
        if isinstance(moderator, Running):
            await moderator.run()
        await asyncio.Event().wait()

    async def refusal(self, question: Question, traceparent: str = "") -> str | None:
        """Returns why a prompt is refused, for the client; None when it may be set."""
        began = time.perf_counter()
        with span(
            "gateway.moderation",
            parent=context_from(traceparent),
            kind=SpanKind.CLIENT,
            attributes={"session.id": question.session_id},
        ):
            verdict = await self._asked(question)
        _SECONDS.observe(time.perf_counter() - began)
        if verdict is None:
            _CHECKS.labels(f"unanswered_{self._on_failure}").inc()
            return UNANSWERED if self._on_failure == "refuse" else None
        _CHECKS.labels("allowed" if verdict.allowed else "refused").inc()
        return None if verdict.allowed else _cleaned(verdict.reason)

    async def _asked(self, question: Question) -> Verdict | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                verdict = await self._moderator.check(question)
        except Exception as error:
            # Its text may hold the prompt. Said once, until it answers again.
            if not self._is_failing:
                self._is_failing = True
                _log.error("moderation.unanswered", error=type(error).__name__)
            return None
        if self._is_failing:
            self._is_failing = False
            _log.info("moderation.answers_again")
        return verdict


class Turnstile:
    """The commands of one connection: they go on in the order in which they came, each prompt
    once it was judged. Owns one task at most, while a prompt waits.

    Args:
        moderation: Who judges.
        of: Returns the question that a prompt amounts to.
        pass_on: Takes each command with its trace.
    """

    def __init__(
        self,
        moderation: Moderation,
        of: Callable[[str], Question],
        pass_on: Callable[[CommandLike, str], None],
    ) -> None:
        self._moderation = moderation
        self._of = of
        self._pass_on = pass_on
        self._waiting: deque[tuple[CommandLike, str]] = deque()
        self._judging: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Returns how many commands wait."""
        return len(self._waiting)

    def take(self, command: CommandLike, traceparent: str) -> None:
        """Passes a command on: at once, unless it is a prompt or comes after one that waits."""
        if not self._waiting and _prompt_of(command) is None:
            self._pass_on(command, traceparent)
            return
        self._waiting.append((command, traceparent))
        if self._judging is None:
            self._judging = asyncio.create_task(self._judge(), name="moderation")

    def close(self) -> None:
        """Forgets what waits: nobody hears the answer."""
        self._waiting.clear()
        if self._judging is not None:
            self._judging.cancel()

    async def _judge(self) -> None:
        try:
            while self._waiting:
                command, traceparent = self._waiting[0]
                prompt = _prompt_of(command)
                if prompt is not None:
                    why = await self._moderation.refusal(self._of(prompt), traceparent)
                    if why is not None:
                        command = _refused(command, why)
                self._waiting.popleft()
                self._pass_on(command, traceparent)
        finally:
            self._judging = None


def _prompt_of(command: CommandLike) -> str | None:
    if isinstance(command, command_pb2.Command) and command.HasField("set_prompt"):
        return command.set_prompt.prompt
    return None


def _refused(command: CommandLike, why: str) -> stream_pb2.InvalidCommand:
    """Returns what the session answers, in its turn and once for each id, with the refusal."""
    return stream_pb2.InvalidCommand(
        command_id=command.command_id,
        name="set_prompt",
        reason=why,
        code=message_pb2.REJECT_REASON_NOT_ALLOWED,
    )


def _cleaned(reason: str) -> str:
    printable = "".join(
        each if each.isprintable() else " " for each in reason[: 4 * LONGEST_REASON]
    )
    return " ".join(printable.split())[:LONGEST_REASON] or NOT_ALLOWED
