"""How the event journal reads, for people and as JSON."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import json_format

from sana_gateway.v1 import event_pb2

_PREFIX: Final = "EVENT_KIND_"
KINDS: Final = {
    value: name.removeprefix(_PREFIX).lower()
    for name, value in event_pb2.EventKind.items()
    if value != event_pb2.EVENT_KIND_UNSPECIFIED
}
"""What each kind of event is called: `session_placed`."""
UNKNOWN: Final = "unknown"
"""A kind that a later version of the service has."""


def kind_of(event: event_pb2.Event) -> str:
    """Returns what happened: `session_placed`."""
    return KINDS.get(event.kind, UNKNOWN)


def name_of(word: event_pb2.WatchEventsResponse) -> str:
    """Returns what a word of the journal is: the kind of its event, `gap`, `chunks`, `started`."""
    kind = word.WhichOneof("response")
    return kind_of(word.event) if kind == "event" else kind or UNKNOWN


def sequence_of(word: event_pb2.WatchEventsResponse) -> int | None:
    """Returns after which event to go on once a word is read; None where that stays as it was."""
    match word.WhichOneof("response"):
        case "event":
            return word.event.sequence
        case "gap":
            return word.gap.next_sequence - 1
        case "started":
            return word.started.sequence
    return None


def as_json(word: event_pb2.WatchEventsResponse) -> dict[str, Any]:
    """Returns the one thing that a word of the journal tells."""
    kind = word.WhichOneof("response")
    if kind is None:
        return {}
    told: dict[str, Any] = json_format.MessageToDict(
        getattr(word, kind), preserving_proto_field_name=True
    )
    return told


def line(word: event_pb2.WatchEventsResponse) -> str:
    """Returns a word of the journal as one line for people; empty for what is not theirs."""
    match word.WhichOneof("response"):
        case "event":
            return _event_line(word.event)
        case "gap":
            lost = word.gap.next_sequence - word.gap.after_sequence - 1
            return f"-- {lost} events are missing here --" if lost > 0 else "-- a gap --"
        case "chunks":
            return _chunks_line(word.chunks)
    return ""


def _event_line(event: event_pb2.Event) -> str:
    at = event.time.ToDatetime().strftime("%H:%M:%S.%f")[:-3]
    told = [at, f"{kind_of(event):<20}"]
    if event.session_id:
        told.append(event.session_id)
    if event.tenant:
        told.append(f"of {event.tenant}")
    if event.model:
        told.append(event.model)
    if event.from_actor_id:
        told.append(f"from {event.from_actor_id}")
    if event.actor_id and event.actor_id != event.from_actor_id:
        told.append(f"at {event.actor_id}")
    if event.gateway_id:
        told.append(f"gateway {event.gateway_id}")
    if 0 < event.rate_share < 1 or event.steps:
        steps = f", {event.steps} steps" if event.steps else ""
        told.append(f"({event.rate_share:.0%} of the frames{steps})")
    if event.reason:
        told.append(f"- {event.reason}")
    return " ".join(told)


def _chunks_line(chunks: event_pb2.ChunkEvents) -> str:
    late = sum(each.late for each in chunks.chunks)
    at = ""
    if chunks.chunks:
        at = chunks.chunks[-1].finish_time.ToDatetime().strftime("%H:%M:%S.%f")[:-3]
    more = f", {chunks.omitted} more" if chunks.omitted else ""
    slack = min((each.slack_us for each in chunks.chunks if each.slack_us), default=0)
    least = f", least slack {slack / 1e3:.0f} ms" if slack else ""
    made = f"{len(chunks.chunks)} chunks at {chunks.actor_id}, {late} late"
    return f"{at} {'chunks':<20} {made}{least}{more}"
