"""From a control snapshot and what is kept to a session that goes on here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from google.protobuf.message import DecodeError

from model_actor.engine.controls import number_connections
from model_actor.engine.participants import Participants
from model_actor.engine.services import EngineServices, Placement
from model_actor.plugin import ModelInfo
from model_actor.snapshots.kept import KeptState
from model_actor.snapshots.states import COPY_EPOCH, Found
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.effects import Effect
from scheduler.core.errors import BadArgumentError
from scheduler.core.run import Run, usable_states
from scheduler.core.session import Session
from scheduler.core.session_table import STARTED
from scheduler.core.snapshot import Resumption, RunSnapshot, SessionSnapshot
from scheduler.wire_snapshot import snapshot_in

log = structlog.get_logger(__name__)

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
    kept: tuple[int, int] | None
    """(run, windows) that the model's state is after; None: it is fresh."""


async def restore(
    placement: Placement,
    services: EngineServices,
    gateways: Participants,
    gateway_id: str,
    asked: stream_pb2.Restore | None,
) -> Restored:
    """Makes a session of what a gateway knows, or of what is kept where it knows nothing.

    Args:
        placement: What the scheduler said of it.
        services: What the sessions of the actor share.
        gateways: Who takes part.
        gateway_id: Who asks.
        asked: What it knows; None: nothing.

    Raises:
        NeedsSnapshotError: It knows nothing, and nothing is kept.
    """
    message, snapshot = await _known(placement, services, gateways, gateway_id, asked)
    fork = message.epoch == COPY_EPOCH or message.session_id != placement.session_id
    resumption = Resumption(
        run=asked.run if asked is not None else snapshot.run_number,
        next_frame=asked.next_frame if asked is not None else 0,
        revision=asked.revision if asked is not None else snapshot.revision,
        handed_over=asked is not None and asked.handed_over,
        kept_windows=None,
        computing=placement.computing,
        reason=MOVED if asked is not None and asked.handed_over else RESTORED,
        fork=fork,
    )
    epoch = COPY_EPOCH if fork else message.epoch
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
        await services.kept.adopt(placement.session_id, placement.epoch, found)
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
    kept = None if found is None else (found.state.run, found.state.windows)
    return Restored(
        machine=machine,
        effects=effects,
        state=state,
        source_us=0 if fork else message.source_us,
        follows=asked is not None and asked.handed_over,
        kept=kept,
    )


def session_info(info: ModelInfo, placement: Placement) -> ModelInfo:
    """Returns what the model declares, at the rate that the session is to run at."""
    if placement.rate_share == 1.0:
        return info
    return replace(info, frame_rate=info.frame_rate * placement.rate_share)


async def _known(
    placement: Placement,
    services: EngineServices,
    gateways: Participants,
    gateway_id: str,
    asked: stream_pb2.Restore | None,
) -> tuple[snapshot_pb2.ControlSnapshot, SessionSnapshot]:
    """Returns the newest control snapshot that can be read."""
    if asked is not None and asked.HasField("snapshot"):
        message = asked.snapshot
        number_connections(message, gateways.askers, gateway_id)
        try:
            return message, snapshot_in(message)
        except BadArgumentError:
            log.warning("session.bad_snapshot", session_id=placement.session_id)
    state = await services.kept.newest(placement.session_id, placement.epoch)
    if state is None:
        raise NeedsSnapshotError
    try:
        message = snapshot_pb2.ControlSnapshot.FromString(state.control)
        # Of whom asked nothing is known: a kept snapshot names no connections.
        number_connections(message, gateways.askers, "")
        return message, snapshot_in(message)
    except (DecodeError, BadArgumentError) as error:
        log.warning("session.bad_snapshot", session_id=placement.session_id)
        raise NeedsSnapshotError from error


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
                of_use[index] = kept.frame_offset + geometry.window_start(kept.windows)
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
    made = Run.restored(services.info.geometry, run).position
    return replace(resumption, handed_over=False, run=run.number, next_frame=made)
