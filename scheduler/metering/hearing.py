"""Between the ledger of usage and the Placement service: reports in, answers out."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from sana_gateway.v1 import usage_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.errors import BadArgumentError
from scheduler.core.metering import ACTORS, HOUR_S
from scheduler.links import Enrollment, Order, PresenceLink, UsageKept
from scheduler.metering.file import Question
from scheduler.metering.ledger import UsageLedger
from scheduler.metering.wire import report_in, row_out
from scheduler.outbox import Outbox

MOST_NAMED: Final = 50
"""Most tenants that are told by name where each name makes series of its own: a client cannot
make more of them, for the names come from the configuration."""
MOST_ROWS: Final = 5000
ROWS: Final = 1000
"""Rows of an answer, unless asked otherwise."""


class Metering:
    """Hears of usage, and tells of it.

    Args:
        ledger: Where it is written.
        named: Tenants that the configuration names.
    """

    def __init__(self, ledger: UsageLedger, named: Iterable[str] = ()) -> None:
        self._ledger = ledger
        self._named = sorted(named)[:MOST_NAMED]

    def beat(self, enrollment: Enrollment, beat: placement_pb2.Heartbeat) -> None:
        """Takes in what an actor says of its sessions."""
        if beat.usage:
            kept = _keeper(enrollment.orders, lambda number: Order(UsageKept(number)))
            teller = f"actor {enrollment.actor}"
            self._hear(teller, ACTORS, beat.usage_number, beat.usage, kept)

    def presence(self, link: PresenceLink, request: placement_pb2.PresenceRequest) -> None:
        """Takes in what a gateway says of its sessions."""
        if request.usage:
            kept = _keeper(link.news, UsageKept)
            teller = f"gateway {link.gateway}"
            self._hear(teller, link.gateway, request.usage_number, request.usage, kept)

    def actor_left(self, enrollment: Enrollment) -> None:
        """An actor's stream has ended."""
        self._ledger.forget(f"actor {enrollment.actor}")

    def gateway_left(self, link: PresenceLink) -> None:
        """A gateway's stream has ended."""
        self._ledger.forget(f"gateway {link.gateway}")

    async def read(self, request: usage_pb2.ReadUsageRequest) -> usage_pb2.ReadUsageResponse:
        """Answers what was used.

        Raises:
            BadArgumentError: The times, the number of rows or the page make no sense.
        """
        since, until = _hours(request)
        size = request.page_size or ROWS
        if not 0 < size <= MOST_ROWS:
            raise BadArgumentError(f"page_size is at most {MOST_ROWS}")
        by_session = request.by != usage_pb2.USAGE_BY_TENANT
        rows = await self._ledger.read(
            Question(
                by_session=by_session,
                since_hour=since,
                until_hour=until,
                tenant=request.tenant or None,
                session=request.session_id or None,
                after=_page_in(request.page_token) if request.page_token else None,
                limit=size + 1,
            )
        )
        answer = usage_pb2.ReadUsageResponse()
        for tenant, session, model, used in rows[:size]:
            answer.rows.append(row_out(used, tenant=tenant, session_id=session, model=model))
        if len(rows) > size:
            answer.next_page_token = _page_out(rows[size - 1].tenant, rows[size - 1].session)
        for name, hour in (("since", since), ("until", until)):
            if hour is not None:
                getattr(answer, name).CopyFrom(Timestamp(seconds=hour * HOUR_S))
        return answer

    def describe(self, answer: placement_pb2.DescribePoolResponse) -> None:
        """Adds to a description of the pool what was used since the ledger began."""
        for tenant, used in self._ledger.totals(self._named).items():
            answer.usage.append(row_out(used, tenant=tenant))

    def _hear(
        self,
        teller: str,
        owner: str,
        number: int,
        told: Collection[placement_pb2.SessionUsage],
        kept: Callable[[int], None],
    ) -> None:
        reports = [report_in(owner, each) for each in told if each.session_id]
        self._ledger.report(teller, number, reports, kept)


def _keeper(box: Outbox[Any], word: Callable[[int], object]) -> Callable[[int], None]:
    return lambda number: box.put(word(number))


def _hours(request: usage_pb2.ReadUsageRequest) -> tuple[int | None, int | None]:
    """Returns the first hour that counts, and the first that counts no more; None: no bound."""
    since = until = None
    if request.HasField("since"):
        since = math.floor(request.since.ToMicroseconds() / 1e6 / HOUR_S)
    if request.HasField("until"):
        until = math.ceil(request.until.ToMicroseconds() / 1e6 / HOUR_S)
    if since is not None and until is not None and until <= since:
        raise BadArgumentError("until is later than since")
    return since, until


def _page_out(tenant: str, session: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([tenant, session]).encode()).decode()


def _page_in(token: str) -> tuple[str, str]:
    try:
        match json.loads(base64.urlsafe_b64decode(token.encode())):
            case [str(tenant), str(session)]:
                return tenant, session
    except (ValueError, binascii.Error):
        pass
    raise BadArgumentError("page_token is none that was given")
