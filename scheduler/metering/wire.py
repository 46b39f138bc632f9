"""Usage to and from the internal contract, and as the public one shows it."""

from __future__ import annotations

from sana_gateway.v1 import usage_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2
from scheduler.core.metering import Carried, Report, Shown, Tally, Usage


def shown_out(shown: Shown) -> snapshot_pb2.ShownUsage:
    """Writes what was shown."""
    return snapshot_pb2.ShownUsage(
        chunks=shown.chunks,
        frames=shown.frames,
        streamed_us=shown.streamed_us,
        compute_us=shown.compute_us,
    )


def shown_in(message: snapshot_pb2.ShownUsage) -> Shown:
    """Reads what was shown."""
    return Shown(message.chunks, message.frames, message.streamed_us, message.compute_us)


def tally_out(tally: Tally) -> snapshot_pb2.UsageTally:
    """Writes what was shown of a session."""
    return snapshot_pb2.UsageTally(
        origin=tally.origin,
        floor=tally.floor,
        before=shown_out(tally.before),
        runs=[
            snapshot_pb2.RunUsage(number=number, shown=shown_out(shown))
            for number, shown in sorted(tally.runs.items())
        ],
    )


def tally_in(message: snapshot_pb2.UsageTally) -> Tally:
    """Reads what was shown of a session."""
    return Tally(
        origin=message.origin,
        floor=message.floor,
        before=shown_in(message.before),
        runs={each.number: shown_in(each.shown) for each in message.runs},
    )


def report_in(owner: str, message: placement_pb2.SessionUsage) -> Report:
    """Reads what somebody knows of a session.

    Args:
        owner: Who tells; see `Report.owner`.
        message: What it tells.
    """
    return Report(
        session=message.session_id,
        tenant=message.tenant,
        model=message.model,
        tally=tally_in(message.tally) if message.HasField("tally") else None,
        owner=owner,
        term=message.term,
        carried=Carried(
            spent_us=message.spent_us,
            bytes_out=message.bytes_out,
            bytes_in=message.bytes_in,
            uploaded=message.uploaded_bytes,
        ),
    )


def row_out(
    used: Usage, *, tenant: str, session_id: str = "", model: str = ""
) -> usage_pb2.UsageRow:
    """Writes what a session or a tenant has used."""
    return usage_pb2.UsageRow(
        tenant=tenant,
        session_id=session_id,
        model=model,
        chunks=used.chunks,
        frames=used.frames,
        streamed_us=used.streamed_us,
        compute_us=used.compute_us,
        spent_us=used.spent_us,
        bytes_out=used.bytes_out,
        bytes_in=used.bytes_in,
        uploaded_bytes=used.uploaded,
        parked_us=used.parked_us,
    )
