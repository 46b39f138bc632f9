"""One visit: a user who comes as planned, edits, and leaves, whatever the service does."""

from __future__ import annotations

import asyncio
import math
import re
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sana_gateway import (
    CallError,
    Client,
    CommandRejected,
    GatewayError,
    LimitError,
    NoCapacityError,
    RejectReason,
    Session,
    UnavailableError,
)
from sana_gateway.session import ModeName
from sana_gateway.v1 import error_pb2
from sdk_adapters.harness.generator.chunks import CENSORED_S
from sdk_adapters.harness.generator.commands import Slowest, traced
from sdk_adapters.harness.generator.doors import Door, Line, Pictures, Seat, Way
from sdk_adapters.harness.generator.gateways import Gateways
from sdk_adapters.harness.generator.playing import Player
from sdk_adapters.harness.generator.pulse import Pulse
from sdk_adapters.harness.generator.source import Camera, Reel
from sdk_adapters.harness.generator.watching import Meter, Watching, Window
from sdk_adapters.harness.marker import prompt_tag
from sdk_adapters.harness.plan import Act, PlannedVisit, Step
from sdk_adapters.harness.records import Outcome, SessionRecord, sketch

RECONNECT_S: Final = 30.0
"""How long a user tries to come back; the service keeps a session about as long."""
AGAIN_S: Final = (0.05, 0.1, 0.2, 0.4)
"""Pauses between tries; the last one is repeated."""
CLOSE_S: Final = 10.0
"""How long the end of a visit may take."""
AnswerT = TypeVar("AnswerT")
LAST_WORD_S: Final = 0.1
"""How long after its media a session may take to say that it has ended."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the visits of a process share."""

    process: int
    gateways: Gateways
    doors: dict[str, Door]
    """By wire."""
    model: str
    clip: bytes
    reels: dict[str, Reel]
    """By codec."""
    epoch: float
    """When the run began, on `clock`."""
    window: Window
    """What counts, on `clock`."""
    clock: Callable[[], float]
    pulse: Pulse
    meter: Meter
    watch: Callable[..., Watching]
    """Makes what follows the frames of a session."""
    pictures: Callable[[Watching, Session, Camera | None, str], Pictures]
    """Makes what decodes the frames of a session."""
    way: Way | None = None
    """What lies between one visit and the service; None: nothing."""


class LeftError(Exception):
    """The user had enough of waiting for a place."""


class Visit:
    """Drives one planned visit."""

    def __init__(self, planned: PlannedVisit, place: Place) -> None:
        self.record = SessionRecord(
            number=planned.number,
            process=place.process,
            wire=planned.wire,
            codec=planned.codec,
            network=planned.network,
            live=planned.live,
            decoded=planned.decoded,
            planned_s=planned.arrival_s,
        )
        """What was measured."""
        lateness = self.record.values.setdefault("frame_lateness", sketch()).add
        pulse_late = place.pulse.late.append

        def late(value: float) -> None:
            lateness(value)
            pulse_late(value)

        self.watching: Watching = place.watch(
            self.record, place.window, self._add, late, meter=place.meter
        )
        """What its user sees."""
        self._planned = planned
        self._place = place
        self._turn = planned.number
        self._session: Session | None = None
        self._online = asyncio.Event()
        self._line: Line | None = None
        self._camera: Camera | None = None
        self._pictures: Pictures | None = None
        self._ready = False
        self._waits = False
        self._slowest = Slowest()
        self._tasks: set[asyncio.Task[None]] = set()
        self._prompts = 0
        self._player = Player(
            self.watching, self._transport, place.clock, asyncio.get_running_loop().call_later
        )

    @property
    def connected(self) -> bool:
        """Whether it has its place."""
        return self._ready

    @property
    def waiting(self) -> bool:
        """Whether it waits for one."""
        return self._waits and not self._ready

    async def run(self) -> SessionRecord:
        """Comes and edits; returns what was measured, and raises nothing. `leave` follows.

        Cancelled, it ends at once: the run is over.
        """
        record = self.record
        record.began_s = self._now() - self._place.epoch
        try:
            record.outcome, record.failure = await self._judged()
        except asyncio.CancelledError:
            record.outcome = Outcome.CUT
        except Exception as error:
            # One visit's fault must not end the others; the record and the log say it.
            record.outcome, record.failure = Outcome.FAILED, f"fault: {type(error).__name__}"
            traceback.print_exc()
        now = self._now()
        record.ended_s = now - self._place.epoch
        self._player.close()
        self.watching.close(now)
        await _ended(*self._tasks)
        epoch = self._place.epoch
        record.freezes = [(begin - epoch, end - epoch) for begin, end in record.freezes]
        record.trace_ids = self._slowest.trace_ids()
        self._ready = self._waits = False
        if record.outcome not in (Outcome.COMPLETED, Outcome.CUT):
            self._place.pulse.failures += 1
        return record

    async def leave(self) -> None:
        """Ends its session, if that is not lost, and its connections."""
        with suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(CLOSE_S):
                await self._leave()

    async def _judged(self) -> tuple[Outcome, str]:
        """Lives; returns how it went, and the kind of what went wrong."""
        begun = False
        try:
            await self._join()
            begun = True
            await self._stay()
        except (NoCapacityError, LimitError) as error:
            return (Outcome.LOST if begun else Outcome.TURNED_AWAY), kind_of(error)
        except LeftError:
            return Outcome.TURNED_AWAY, "gave_up"
        except (GatewayError, TimeoutError, OSError) as error:
            return (Outcome.LOST if begun else Outcome.FAILED), kind_of(error)
        return Outcome.COMPLETED, ""

    # -- coming ----------------------------------------------------------------------------

    async def _join(self) -> None:
        """Asks for a session, waits for its place, and connects to its media."""
        planned, place = self._planned, self._place
        arrival = place.epoch + planned.arrival_s
        asked = self._now()
        session = await self._asked_for(asked)
        answered = self._now()
        self._take(session)
        self._waits = True
        try:
            async with asyncio.timeout_at(place.epoch + planned.leave_s):
                await session.ready()
        except TimeoutError:
            self._add("admission_wait", (self._now() - asked) * 1e3, self._now())
            raise LeftError from None
        except asyncio.CancelledError:
            self._add("admission_wait", (self._now() - asked) * 1e3, place.window.end - 1e-6)
            raise
        ready = self._now()
        self._ready = True
        self._add("admission_wait", (ready - asked) * 1e3, ready)
        self._add("join_gpu_wait", (ready - answered) * 1e3, ready)
        if planned.live:
            phase = planned.number * 0.618 % 1.0
            self._camera = Camera(place.reels[planned.codec], place.clock, phase=phase)
        if planned.decoded:
            self._pictures = place.pictures(self.watching, session, self._camera, planned.codec)
        requested = self._now()
        self._line = await place.doors[planned.wire].connect(self._seat(session))
        joined = self._now()
        self._online.set()
        # Of the media's part ICE and DTLS are told by the door; over gRPC it is one request.
        split = sum(
            values.sum / 1e3
            for name in ("join_ice", "join_dtls")
            if (values := self.record.values.get(name)) is not None
        )
        requests = (answered - asked) + max(0.0, joined - requested - split)
        self._add("join_request", requests * 1e3, joined)
        self._add("join", (joined - arrival) * 1e3, joined)

    async def _asked_for(self, began: float) -> Session:
        """Asks one gateway after the other for a session."""
        for attempt in range(1 << 30):
            client = self._place.gateways.client(self._turn)
            try:
                return await client.create_session(self._place.model, wait=False)
            except UnavailableError:
                if self._now() - began > RECONNECT_S:
                    raise
                self._turn += 1
                await _pause(attempt)
        raise AssertionError

    def _take(self, session: Session) -> None:
        """Listens to a session."""
        self._session = session
        self.record.session_id = session.session_id
        session.on("state", self._told)
        session.on("chunk_complete", self._chunk_complete)
        session.on("generation_complete", self._complete)
        session.on("session_moved", lambda _: self.watching.moved(self._now()))
        session.on("command_error", lambda _: self._count("commands_refused"))

    def _seat(self, session: Session) -> Seat:
        return Seat(
            client=self._client,
            session=session,
            codec=self._planned.codec,
            watching=self.watching,
            camera=self._camera,
            pictures=self._pictures,
            clock=self._place.clock,
            add=self._add,
            way=self._place.way,
        )

    @property
    def _client(self) -> Client:
        return self._place.gateways.client(self._turn)

    # -- being there -----------------------------------------------------------------------

    async def _stay(self) -> None:
        """Does what is planned, and comes back when a connection is lost."""
        keeping, acting = asyncio.create_task(self._keep()), asyncio.create_task(self._act())
        try:
            await asyncio.wait((keeping, acting), return_when=asyncio.FIRST_COMPLETED)
            for task in (keeping, acting):
                if task.done():
                    await task
        finally:
            await _ended(keeping, acting)

    async def _keep(self) -> None:
        """Ends only with an error: the session is lost."""
        while True:
            session, line = self._session, self._line
            if session is None or line is None:
                raise AssertionError
            guarding = asyncio.create_task(session.wait_for(lambda _: False))
            losing = asyncio.create_task(line.lost())
            try:
                await asyncio.wait((guarding, losing), return_when=asyncio.FIRST_COMPLETED)
                self.watching.disconnected(self._now())
                self._online.clear()
                await asyncio.wait((guarding,), timeout=LAST_WORD_S)
                error = guarding.exception() if guarding.done() else None
                if losing.done():
                    await losing
            finally:
                await _ended(guarding, losing)
            if error is not None and not _passing(error):
                raise error
            self._turn += error is not None
            await line.close()
            await self._rejoin(session)

    async def _rejoin(self, former: Session) -> None:
        """Attaches anew, at whichever gateway answers.

        Raises:
            GatewayError: The session is gone, or no gateway answers for long.
        """
        await former.detach()
        began = self._now()
        for attempt in range(1 << 30):
            session: Session | None = None
            try:
                session = await self._client.attach(self.record.session_id)
                await session.ready(CLOSE_S)
                self._line = await self._place.doors[self._planned.wire].connect(
                    self._seat(session)
                )
            except (GatewayError, TimeoutError) as error:
                if session is not None:
                    await session.detach()
                if not _passing(error) or self._now() - began > RECONNECT_S:
                    raise
                self._turn += 1
                await _pause(attempt)
            else:
                self._take(session)
                self._online.set()
                return

    async def _act(self) -> None:
        """Does the steps, each at its time. A visit that began late does all of them later."""
        place, planned = self._place, self._planned
        await self._stage()
        first = planned.steps[0].at_s if planned.steps else planned.leave_s
        shift = max(0.0, self._now() - (place.epoch + first))
        for step in planned.steps:
            at = place.epoch + step.at_s + shift
            await self._until(at)
            self._begin(self._do(step, at))
        await self._until(place.epoch + planned.leave_s + shift)

    async def _stage(self) -> None:
        """Prepares the source."""
        mode: ModeName = "live" if self._planned.live else "file"
        await self._command(lambda session: session.set_mode(mode))
        if not self._planned.live:
            file = await self._answer(lambda session: session.upload(self._place.clip))
            await self._command(lambda session: session.set_video(file))

    async def _do(self, step: Step, at: float) -> None:
        match step.act:
            case Act.START:
                prompt = self._worded(step.prompt)
                self._begin(self._command(lambda session: session.set_prompt(prompt), at))
                self._player.play(at)
            case Act.RESUME:
                self._player.play(at)
            case Act.PAUSE:
                self._player.halt(at)
            case Act.PROMPT:
                prompt = self._worded(step.prompt)
                self.watching.prompted(prompt, prompt_tag(prompt), self._now())
                await self._command(lambda session: session.set_prompt(prompt), at)

    def _worded(self, prompt: str) -> str:
        """Makes a prompt unlike all others, so that its pictures can be told."""
        self._prompts += 1
        return f"{prompt}, take {self._planned.number}-{self._prompts}"

    # -- commands --------------------------------------------------------------------------

    def _transport(self, name: str, at: float) -> None:
        """Sends start, pause or resume, for the player."""
        self._begin(self._player.sent(self._command(lambda each: getattr(each, name)(), at)))

    async def _command(
        self, send: Callable[[Session], Awaitable[None]], planned: float | None = None
    ) -> bool:
        """Sends a command, again if its connection is lost; returns whether it was accepted.

        Args:
            send: Sends it.
            planned: When it was to be sent; None: now.
        """
        began = self._now() if planned is None else planned
        try:
            with traced() as trace_id:
                await self._answer(send)
        except CommandRejected as error:
            self._player.refused(error.retry_after)
            return False
        except (GatewayError, TimeoutError):
            # The session is over: whoever keeps it says so.
            self._unanswered(began)
            return False
        except asyncio.CancelledError:
            self._unanswered(began)
            raise
        now = self._now()
        self._add("command_ack", (now - began) * 1e3, now)
        self._slowest.add(now - began, trace_id)
        return True

    def _unanswered(self, began: float) -> None:
        """A command that nobody answered counts with what it waited, if that was long."""
        now = min(self._now(), math.nextafter(self._place.window.end, -math.inf))
        if now - began > CENSORED_S:
            self._add("command_ack", (now - began) * 1e3, now)

    async def _answer(self, ask: Callable[[Session], Awaitable[AnswerT]]) -> AnswerT:
        """Asks the session, again if its connection is lost, and returns the answer.

        Raises:
            GatewayError: It refused, or is over, or cannot be reached for long.
            TimeoutError: There is no answer.
        """
        asked = self._now()
        while True:
            await self._online.wait()
            session = self._session
            if session is None:
                raise AssertionError
            try:
                return await ask(session)
            except CommandRejected:
                raise
            except (GatewayError, TimeoutError) as error:
                moved = session is not self._session or not self._online.is_set()
                if not (moved or _passing(error)) or self._now() - asked > RECONNECT_S:
                    raise
                await _pause(0)

    # -- what the session says -------------------------------------------------------------

    def _told(self, state: Any) -> None:  # noqa: ANN401 - a State
        self.watching.frame_rate = state.degraded_frame_rate or 24.0
        self._player.told(state.phase)

    def _chunk_complete(self, done: Any) -> None:  # noqa: ANN401 - a ChunkComplete
        self.watching.chunk_complete(done.chunk_index, done.active_prompt, self._now())

    def _complete(self, _: Any) -> None:  # noqa: ANN401 - a GenerationComplete
        state = self._session.state if self._session is not None else None
        self.watching.completed(state.num_source_frames if state is not None else 0)
        self._player.completed()

    # -- leaving ---------------------------------------------------------------------------

    async def _leave(self) -> None:
        if self._line is not None:
            await self._line.close()
        session = self._session
        if session is None:
            return
        if self.record.outcome is not Outcome.LOST:
            with suppress(GatewayError):
                await self._client.close_session(session.session_id)
        await session.detach()

    # -- small things ----------------------------------------------------------------------

    def _now(self) -> float:
        return self._place.clock()

    def _add(self, metric: str, value: float, at: float) -> None:
        begin, end = self._place.window
        if begin <= at < end:
            self.record.add(metric, value)
            self._place.pulse.add(metric, value)

    def _count(self, metric: str) -> None:
        begin, end = self._place.window
        if begin <= self._now() < end:
            self.record.count(metric)

    def _begin(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._now()))


def kind_of(error: BaseException) -> str:
    """Returns the kind of what went wrong: a reason of the service, or the error's name."""
    if isinstance(error, CommandRejected) and error.code:
        return RejectReason.Name(error.code).removeprefix("REJECT_REASON_").lower()
    if isinstance(error, CallError) and error.reason:
        return error_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_").lower()
    if type(error) is CallError:
        return error.code.name.lower()
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _passing(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or (isinstance(error, CallError) and error.passing)


async def _pause(attempt: int) -> None:
    await asyncio.sleep(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels and awaits tasks."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
