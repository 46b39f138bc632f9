"""From a control snapshot and what is kept to a session that goes on here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from google.protobuf.message import DecodeError

from model_actor.engine.controls import number_connections
from model_actor.engine.held_picture import held_picture, kept_picture
from model_actor.engine.participants import Participants
from model_actor.engine.services import EngineServices, Placement
from model_actor.engine.store import FinishedFrame
from model_actor.plugin import ModelInfo
from model_actor.snapshots.kept import Age, KeptState
from model_actor.snapshots.states import COPY_EPOCH, Found
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.effects import Effect
from scheduler.core.errors import BadArgumentError
from scheduler.core.quality import Quality
from scheduler.core.run import Run, usable_states
from scheduler.core.session import Session
from scheduler.core.session_table import STARTED
from scheduler.core.snapshot import Resumption, RunSnapshot, SessionSnapshot
from scheduler.wire_snapshot import snapshot_in

log = structlog.get_logger(__name__)

BEHIND = 48
"""Frames that the clocks of two gateways of a session may differ by; more than ever do."""
MOVED = "moved"
RESTORED = "restored"


class NeedsSnapshotError(Exception):
    """Nothing is known of the session. Only inside the actor."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a session that was elsewhere is made of."""

    machine: Session
    effects: list[Effect]
    """What it says and asks for to begin with."""
    state: object
    """What the model keeps of it."""
    source_us: int
    """Capture time of the last camera frame that was used."""
    follows: bool
    """The old actor goes on showing what it has made."""
    found: Found | None
    """What was kept of the model's state; None: it is fresh."""
    picture: FinishedFrame | None
    """The picture that holds; None: none does, or nobody has it."""
    usage: snapshot_pb2.MeterSnapshot | None
    """What was metered of it elsewhere; None: nothing is known, or it is a copy."""
    journal: snapshot_pb2.JournalSnapshot | None
    """Where its journal lies; None: none is kept, or it is a copy."""

    @property
    def kept(self) -> tuple[int, int] | None:
        """(run, windows) that the model's state is after; None: it is fresh."""
        return None if self.found is None else (self.found.state.run, self.found.state.windows)


Offers = Mapping[str, stream_pb2.Restore | None]
"""What gateways bring that take part, by their ids, in the order they came; None: nothing."""


def is_newer(offers: Offers, before: Offers) -> bool:
    """Tells whether the session is to be made of other things than of what was brought before:
    of a newer snapshot, or from another frame on.
    """
    newest, known = _with_snapshots(offers), _with_snapshots(before)
    if not newest or (known and _worth(newest[0][1]) < _worth(known[0][1])):
        return False
    newer = not known or _worth(newest[0][1]) > _worth(known[0][1])
    return newer or (not newest[0][1].handed_over and _position(offers) != _position(before))


async def restore(
    placement: Placement,
    services: EngineServices,
    gateways: Participants,
    offers: Offers,
) -> Restored:
    """Makes a session of the newest that a gateway knows or that is kept.

    What is kept of it is not touched yet: something newer may be brought meanwhile.

    Args:
        placement: What the scheduler said of it.
        services: What the sessions of the actor share.
        gateways: Who takes part.
        offers: What they bring.

    Raises:
        NeedsSnapshotError: They bring nothing, and nothing is kept.
    """
    message, snapshot, handed_over = await _known(placement, services, gateways, offers)
    fork = _is_fork(placement, message)
    told = offers if handed_over is None else {"": handed_over}
    run, next_frame = _position(told) or (snapshot.run_number, 0)
    resumption = Resumption(
        run=run,
        next_frame=next_frame,
        revision=max((each.revision for each in offers.values() if each), default=0),
        handed_over=handed_over is not None,
        kept_windows=None,
        computing=placement.computing,
        reason=MOVED if handed_over is not None else RESTORED,
        fork=fork,
    )
    epoch = COPY_EPOCH if fork else message.epoch
    picture = await held_picture(services.info, offers.values())
    if picture is None and handed_over is None:
        picture = await _kept_picture(placement, services)
    found = await _found(placement, services, snapshot, resumption, epoch)
    state, found = await _state(placement, services, found)
    resumption = _with_state(services, snapshot, resumption, found)
    try:
        machine, effects = Session.restored(
            services.info.geometry,
            snapshot,
            resumption,
            asyncio.get_running_loop().time(),
            start_wait=services.start_wait_s,
            source_wait=services.source_wait_s,
        )
    except BaseException:
        await services.states.close(state)
        raise
    log.info(
        "session.restored",
        session_id=placement.session_id,
        epoch=placement.epoch,
        windows=-1 if found is None else found.state.windows,
        handed_over=resumption.handed_over,
        fork=fork,
    )
    return Restored(
        machine=machine,
        effects=effects,
        state=state,
        source_us=0 if fork else message.source_us,
        follows=handed_over is not None,
        found=found,
        picture=picture,
        usage=message.usage if message.HasField("usage") and not fork else None,
        journal=message.journal if message.HasField("journal") and not fork else None,
    )


async def _kept_picture(placement: Placement, services: EngineServices) -> FinishedFrame | None:
    """Returns the picture that was kept when the session was parked or copied, if nothing else
    was kept since.
    """
    state = await services.kept.newest(placement.session_id, placement.epoch)
    if state is None or not state.picture:
        return None
    return await kept_picture(services.info, state.picture)


def session_info(info: ModelInfo, quality: Quality) -> ModelInfo:
    """Returns what the model declares, at the rate that a session is to run at."""
    return replace(info, frame_rate=info.frame_rate * quality.rate)


async def _known(
    placement: Placement,
    services: EngineServices,
    gateways: Participants,
    offers: Offers,
) -> tuple[snapshot_pb2.ControlSnapshot, SessionSnapshot, stream_pb2.Restore | None]:
    """Returns the newest control snapshot that can be read.

    Returns:
        The message, what it says, and what it came with if the session was handed over.
    """
    for gateway_id, offer in _with_snapshots(offers):
        message = snapshot_pb2.ControlSnapshot()
        message.CopyFrom(offer.snapshot)
        number_connections(message, gateways.askers, gateway_id)
        try:
            snapshot = snapshot_in(message)
        except BadArgumentError:
            log.warning("session.bad_snapshot", session_id=placement.session_id)
            continue
        if offer.handed_over:
            return message, snapshot, offer
        newer = None
        if not _is_fork(placement, message):
            newer = await _kept(placement, services, gateways, than=_age(offer))
        return *(newer or (message, snapshot)), None
    kept = await _kept(placement, services, gateways)
    if kept is None:
        raise NeedsSnapshotError
    return *kept, None


async def _kept(
    placement: Placement,
    services: EngineServices,
    gateways: Participants,
    *,
    than: Age | None = None,
) -> tuple[snapshot_pb2.ControlSnapshot, SessionSnapshot] | None:
    """Returns the newest control snapshot that is kept, if it can be read and is newer."""
    state = await services.kept.newest(placement.session_id, placement.epoch, than=than)
    if state is None:
        return None
    try:
        message = snapshot_pb2.ControlSnapshot.FromString(state.control)
        # That of a copy is its original's, whose revisions are no measure.
        if than is not None and _is_fork(placement, message):
            return None
        # Of whom asked nothing is known: a kept snapshot names no connections.
        number_connections(message, gateways.askers, "")
        return message, snapshot_in(message)
    except (DecodeError, BadArgumentError):
        log.warning("session.bad_snapshot", session_id=placement.session_id)
        return None


def _is_fork(placement: Placement, message: snapshot_pb2.ControlSnapshot) -> bool:
    return message.epoch == COPY_EPOCH or message.session_id != placement.session_id


def _with_snapshots(offers: Offers) -> list[tuple[str, stream_pb2.Restore]]:
    """Returns who brings a snapshot, and what, the newest first, of equals who came first."""
    told = [(name, each) for name, each in offers.items() if each and each.HasField("snapshot")]
    return sorted(told, key=lambda each: _worth(each[1]), reverse=True)


def _worth(offer: stream_pb2.Restore) -> tuple[bool, Age]:
    """Returns what decides between two offers. One that was handed over is the last word."""
    return offer.handed_over, _age(offer)


def _age(offer: stream_pb2.Restore) -> Age:
    if offer.blank:
        return Age()
    return Age(offer.snapshot.epoch, offer.snapshot.revision)


def _position(offers: Offers) -> tuple[int, int] | None:
    """Returns how far the session was shown: the latest run, and the first frame of it that
    some gateway has not handed out. One that is ahead leaves out what it is given twice; one
    that is far behind has only begun to take part.
    """
    told = [(each.run, each.next_frame) for each in offers.values() if each is not None]
    if not told:
        return None
    run, ahead = max(told)
    return run, min(frame for at, frame in told if at == run and frame >= ahead - BEHIND)


async def _found(
    placement: Placement,
    services: EngineServices,
    snapshot: SessionSnapshot,
    resumption: Resumption,
    epoch: int,
) -> Found | None:
    """Finds the state of the model that the present run goes on from."""
    run = snapshot.run
    if run is None or snapshot.phase not in STARTED or run.windows == 0:
        return None
    geometry = services.info.geometry
    known = resumption.next_frame if resumption.run == run.number else 0
    if resumption.handed_over or resumption.fork:
        usable = range(run.windows, run.windows + 1)
    else:
        usable = usable_states(geometry, run, known)

    def choose(states: Sequence[KeptState]) -> int | None:
        of_use = {}
        for index, state in enumerate(states):
            kept = _run_of(state)
            if kept is None or kept.number != run.number or kept.windows not in usable:
                continue
            # A live model counts on from any state, a clip's only in the same frames.
            if run.frames is None or kept.frame_offset == run.frame_offset:
                of_use[index] = kept.frame_offset + geometry.answers_from(kept.windows)
        return max(of_use, key=lambda index: of_use[index], default=None)

    return await services.kept.find(placement.session_id, epoch, choose)


def _run_of(state: KeptState) -> RunSnapshot | None:
    """Returns the run as it was when a state was kept; None when the two do not agree."""
    try:
        run = snapshot_in(snapshot_pb2.ControlSnapshot.FromString(state.control)).run
    except (DecodeError, BadArgumentError):
        return None
    agrees = run is not None and (run.number, run.windows) == (state.run, state.windows)
    return run if agrees else None


async def _state(
    placement: Placement, services: EngineServices, found: Found | None
) -> tuple[object, Found | None]:
    """Makes the model's state; a fresh one where what was found is of no use to it."""
    if found is not None and found.state.model is not None:
        try:
            state = await services.states.restore(placement.session_id, found.state.model)
        except Exception as error:  # a model may raise anything, and quote what it read
            log.warning(
                "session.not_restored",
                session_id=placement.session_id,
                error=type(error).__name__,
            )
        else:
            return state, found
    return await services.states.open(placement.session_id), None


def _with_state(
    services: EngineServices,
    snapshot: SessionSnapshot,
    resumption: Resumption,
    found: Found | None,
) -> Resumption:
    """Returns the resumption as it is with the model's state that is at hand."""
    run = snapshot.run
    if found is not None:
        return replace(resumption, kept_windows=found.state.windows)
    computed = run is not None and snapshot.phase in STARTED and run.windows > 0
    if run is None or not computed or not resumption.handed_over:
        return resumption
    # The old actor shows all it has made, and what it had of the model is lost: the model
    # begins anew after that.
    made = Run.restored(services.info.geometry, run).answered
    return replace(resumption, handed_over=False, run=run.number, next_frame=made)
