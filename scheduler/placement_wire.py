"""The messages of the Placement service: to the events of the core, and from its effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from scheduler.core import pool_events as ev
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import ActorId, Epoch, GatewayId, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.pool_view import ActorView, PoolView, SessionView
from scheduler.core.quality import Quality
from scheduler.links import (
    FollowTraces,
    Grant,
    Heard,
    Move,
    News,
    Order,
    UsageKept,
    WatchChunks,
)
from scheduler.wire import principal_in, principal_out

_LEASE_STATES = {
    LeaseState.QUEUED: pool_pb2.LEASE_STATE_QUEUED,
    LeaseState.ASSIGNED: pool_pb2.LEASE_STATE_ASSIGNED,
    LeaseState.ACTIVE: pool_pb2.LEASE_STATE_ACTIVE,
    LeaseState.PARKED: pool_pb2.LEASE_STATE_PARKED,
    LeaseState.MOVING: pool_pb2.LEASE_STATE_MOVING,
    LeaseState.DRAINING: pool_pb2.LEASE_STATE_DRAINING,
    LeaseState.LOST: pool_pb2.LEASE_STATE_LOST,
}


def given(name: str, value: str) -> str:
    """Returns a field that must not be empty.

    Raises:
        BadArgumentError: It is.
    """
    if not value:
        raise BadArgumentError(f"{name} is missing")
    return value


def us(seconds: float) -> int:
    """Returns whole microseconds."""
    return round(seconds * 1e6)


# Gateways


def place_in(request: pb.PlaceRequest) -> ev.PlaceAsked:
    """Reads who asks for a place.

    Raises:
        BadArgumentError: A name is missing.
    """
    return ev.PlaceAsked(
        session=SessionId(given("session_id", request.session_id)),
        model=given("model", request.model),
        principal=principal_in(request.principal),
        gateway=GatewayId(given("gateway_id", request.gateway_id)),
        waited=max(0, request.waited_us) / 1e6,
        restore=request.restore,
        near_host=request.near_host,
        fork=request.fork,
    )


def place_out(news: ev.Waiting | Grant) -> pb.PlaceResponse:
    """Writes how a placement stands."""
    if isinstance(news, Grant):
        return pb.PlaceResponse(lease=lease_out(news))
    return pb.PlaceResponse(
        queued=pb.Queued(position=news.position, estimated_wait_us=us(news.estimate))
    )


def lease_out(grant: Grant) -> pb.Lease:
    """Writes a session's place."""
    return pb.Lease(
        session_id=grant.session,
        epoch=grant.epoch,
        actor_id=grant.actor,
        address=grant.address,
        token=grant.token,
        principal=principal_out(grant.principal),
        model=grant.model,
        capabilities=grant.capabilities,
    )


def counts_in(request: pb.PresenceRequest) -> dict[SessionId, int]:
    """Reads how many connections a gateway has to sessions."""
    return {SessionId(entry.session_id): entry.count for entry in request.connections}


def news_out(news: News) -> pb.PresenceResponse:
    """Writes what a gateway is told."""
    match news:
        case ev.Ended(session, reason):
            return pb.PresenceResponse(ended=pb.SessionOver(session_id=session, reason=reason))
        case ev.ParkedTold(session, epoch, host, restoring):
            return pb.PresenceResponse(
                parked=pb.SessionParked(
                    session_id=session, epoch=epoch, host=host, restoring=restoring
                )
            )
        case UsageKept(number):
            return pb.PresenceResponse(usage_kept=pb.UsageKept(number=number))
        case FollowTraces(sessions):
            return pb.PresenceResponse(follow_traces=pb.FollowTraces(session_ids=sessions))
        case Move(grant):
            return pb.PresenceResponse(moves=pb.SessionMoves(lease=lease_out(grant)))


# Actors


def register_in(register: pb.Register) -> ev.ActorRegistered:
    """Reads what an actor says of itself.

    Raises:
        BadArgumentError: That makes no sense.
    """
    if register.resident_slots < 1 or register.period_ms <= 0 or register.chunk_ms < 0:
        raise BadArgumentError("an actor needs a slot, a period above 0 and a cost of 0 or more")
    if not register.models:
        raise BadArgumentError("an actor answers to at least one name")
    rates = tuple(register.degraded_rates)
    if not all(0 < rate < 1 for rate in rates) or sorted(rates, reverse=True) != list(rates):
        raise BadArgumentError("degraded rates are between 0 and 1, the highest first")
    steps_ms = _steps_in(register.degraded_steps)
    if not all(steps > 0 and 0 < ms < register.chunk_ms for steps, ms in steps_ms.items()):
        raise BadArgumentError("fewer steps cost less than all, and more than nothing")
    return ev.ActorRegistered(
        actor=ActorId(given("actor_id", register.actor_id)),
        models=tuple(register.models),
        address=given("address", register.address),
        resident_slots=register.resident_slots,
        chunk_ms=register.chunk_ms,
        period_ms=register.period_ms,
        held=tuple(_held_in(held) for held in register.sessions),
        host=register.host,
        resident_bytes=register.resident_bytes,
        session_bytes=register.session_bytes,
        encode_capacity_ms=register.encode_capacity_ms,
        encode_ms=register.encode_ms,
        degraded_rates=rates,
        degraded_steps=steps_ms,
        draining=register.draining,
        told_to_drain=_told_in(register.drain) if register.HasField("drain") else None,
    )


def _steps_in(told: Iterable[pb.FewerSteps]) -> dict[int, float]:
    return {each.steps: each.chunk_ms for each in told}


def _told_in(drain: pb.Drain) -> ev.ToldToDrain | None:
    ends_in = drain.ends_in_us / 1e6 if drain.ends_in_us > 0 else None
    return ev.ToldToDrain(ends_in) if drain.draining else None


def _held_in(held: pb.HeldSession) -> ev.Held:
    return ev.Held(
        SessionId(held.session_id),
        Epoch(held.epoch),
        held.computing,
        principal_in(held.principal),
        held.model,
        quality=Quality(held.rate_share or 1.0, held.steps),
        awaits_room=held.awaits_room,
    )


def heard_in(actor: ActorId, request: pb.EnrollRequest) -> Heard | None:
    """Reads what an actor says on its link; None for what is not known here."""
    match request.WhichOneof("request"):
        case "heartbeat":
            return _beat_in(actor, request.heartbeat)
        case "admitted":
            admitted = request.admitted
            return ev.AdmitAnswered(actor, *_whose(admitted), admitted.refusal)
        case "parked":
            parked = request.parked
            return ev.ParkAnswered(actor, *_whose(parked), parked.host, parked.failure)
        case "restored":
            return ev.SessionRestored(actor, *_whose(request.restored))
        case "departed":
            return ev.SessionDeparted(actor, *_whose(request.departed))
    return None


def _beat_in(actor: ActorId, beat: pb.Heartbeat) -> ev.ActorBeat:
    return ev.ActorBeat(
        actor,
        chunk_ms=beat.chunk_ms,
        encode_ms=beat.encode_ms,
        session_bytes=beat.session_bytes,
        chunks=beat.chunks,
        late_chunks=beat.late_chunks,
        windows=beat.windows,
        batches=beat.batches,
        steps_ms=_steps_in(beat.degraded_steps) or None,
        gains={each.size: each.gain for each in beat.batch_gains} or None,
        ends_in=beat.ends_in_us / 1e6 if beat.ends_in_us > 0 else None,
    )


def _whose(message: pb.Admitted | pb.Parked | pb.Restored | pb.Departed) -> tuple[SessionId, Epoch]:
    return SessionId(message.session_id), Epoch(message.epoch)


def order_out(order: Order) -> pb.EnrollResponse:
    """Writes what an actor is told."""
    match order.word:
        case ev.Admit() as admit:
            return pb.EnrollResponse(admit=_admit_out(admit, order.traceparent))
        case ev.Evict(_, session, epoch, reason, goes_on):
            evict = pb.Evict(session_id=session, epoch=epoch, reason=reason, goes_on=goes_on)
            return pb.EnrollResponse(evict=evict)
        case ev.Park(_, session, epoch, store):
            return pb.EnrollResponse(park=pb.Park(session_id=session, epoch=epoch, store=store))
        case ev.AwaitsRoom(_, session, epoch, awaits):
            room = pb.AwaitsRoom(session_id=session, epoch=epoch, awaits=awaits)
            return pb.EnrollResponse(awaits_room=room)
        case ev.Pace(_, session, epoch, (rate, steps)):
            pace = pb.Pace(session_id=session, epoch=epoch, rate_share=rate, steps=steps)
            return pb.EnrollResponse(pace=pace)
        case ev.TellDrain(_, told):
            return pb.EnrollResponse(drain=_told_out(told))
        case ev.Retire():
            return pb.EnrollResponse(retire=pb.Retire())
        case WatchChunks(watched):
            return pb.EnrollResponse(watch_chunks=pb.WatchChunks(watched=watched))
        case UsageKept(number):
            return pb.EnrollResponse(usage_kept=pb.UsageKept(number=number))
        case FollowTraces(sessions):
            return pb.EnrollResponse(follow_traces=pb.FollowTraces(session_ids=sessions))


def _told_out(told: ev.ToldToDrain | None) -> pb.Drain:
    if told is None:
        return pb.Drain()
    # One without time left is a drain with an end, too.
    ends_in_us = 0 if told.ends_in is None else max(1, us(told.ends_in))
    return pb.Drain(draining=True, ends_in_us=ends_in_us)


def _admit_out(admit: ev.Admit, traceparent: str) -> pb.Admit:
    return pb.Admit(
        session_id=admit.session,
        epoch=admit.epoch,
        principal=principal_out(admit.principal),
        model=admit.model,
        traceparent=traceparent,
        restore=admit.restore,
        computing=admit.computing,
        rate_share=admit.quality.rate,
        steps=admit.quality.steps,
    )


def book_out(answer: ev.BookAnswered) -> pb.BookResponse:
    """Writes whether compute is booked."""
    return pb.BookResponse(
        booked=answer.booked,
        retry_after_us=us(answer.retry_after),
        rate_share=answer.quality.rate if answer.booked else 0.0,
        steps=answer.quality.steps if answer.booked else 0,
    )


# Operators


def drain_out(progress: ev.DrainProgress) -> pb.DrainResponse:
    """Writes how far a drain has come."""
    return pb.DrainResponse(
        remaining=progress.remaining,
        without_room=progress.without_room,
        cancelled=progress.cancelled,
        lost=progress.lost,
    )


def pool_out(view: PoolView) -> pool_pb2.DescribePoolResponse:
    """Writes the pool as operators see it."""
    counts = Counter["pool_pb2.LeaseState.ValueType"]()
    for (state, detached), count in view.counts.items():
        counts[_state_out(state, detached=detached)] += count
    return pool_pb2.DescribePoolResponse(
        actors=map(_actor_out, view.actors),
        sessions=map(_session_out, view.sessions),
        on_demand=view.on_demand,
        session_counts=[
            pool_pb2.SessionCount(state=state, count=count)
            for state, count in sorted(counts.items())
        ],
        signals=pool_pb2.PoolSignals(
            queue_age_s=view.signals.queue_age,
            queued=view.signals.queued,
            predicted_utilisation=view.signals.predicted_utilisation,
            miss_rate=view.signals.miss_rate,
            actors_wanted=view.signals.actors_wanted,
            batch_fill=view.signals.batch_fill,
        ),
    )


def _actor_out(actor: ActorView) -> pool_pb2.Actor:
    return pool_pb2.Actor(
        actor_id=actor.actor,
        model=actor.models[0],
        names=actor.models,
        address=actor.address,
        healthy=actor.healthy,
        sessions=actor.sessions,
        resident_slots=actor.resident_slots,
        computing=actor.computing,
        booked_ms_per_s=actor.booked_ms_per_s,
        ceiling_ms_per_s=actor.ceiling_ms_per_s,
        host=actor.host,
        resident_bytes=actor.resident_bytes,
        booked_bytes=actor.booked_bytes,
        booked_encode_ms_per_s=actor.booked_encode_ms_per_s,
        encode_ceiling_ms_per_s=actor.encode_ceiling_ms_per_s,
        draining=actor.draining,
        real_time_factor=actor.real_time_factor,
    )


def _session_out(session: SessionView) -> pool_pb2.PooledSession:
    entry = pool_pb2.PooledSession(
        session_id=session.session,
        tenant=session.tenant,
        state=_state_out(session.state, detached=session.detached),
        actor_id=session.actor or "",
        computing=session.computing,
        rate_share=session.quality.rate,
        steps=session.quality.steps,
        model=session.model,
    )
    entry.age.FromNanoseconds(us(session.age) * 1000)
    if session.queue_position:
        entry.queue_position, entry.priority = session.queue_position, session.priority
        if session.estimated_wait:
            entry.estimated_wait.FromNanoseconds(us(session.estimated_wait) * 1000)
    return entry


def _state_out(state: LeaseState, *, detached: bool) -> pool_pb2.LeaseState.ValueType:
    if detached and state is LeaseState.ACTIVE:
        return pool_pb2.LEASE_STATE_DETACHED
    return _LEASE_STATES.get(state, pool_pb2.LEASE_STATE_UNSPECIFIED)
