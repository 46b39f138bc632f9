"""The ledger of usage: written once a second, confirmed when written, read by hour and page."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sana_gateway.v1 import session_pb2, usage_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2
from scheduler.core.errors import BadArgumentError, ConfigurationError
from scheduler.core.ids import ActorId, GatewayId
from scheduler.core.metering import ACTORS, HOUR_S, Carried, Report, Shown, Tally, Usage
from scheduler.links import Enrollment, PresenceLink, UsageKept
from scheduler.metering import file as usage_file
from scheduler.metering.file import Question
from scheduler.metering.hearing import MOST_NAMED, Metering
from scheduler.metering.ledger import MOST_WAITING, UsageLedger

pytestmark = pytest.mark.unit

NOON = 500_000 * HOUR_S
"""A full hour."""


class Wall:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def ledger(tmp_path: Path, wall: Wall) -> AsyncIterator[UsageLedger]:
    ledger = UsageLedger(tmp_path, wall=wall)
    await ledger.open()
    yield ledger
    await ledger.close()


def chunks(session: str, count: int, *, tenant: str = "t", run: int = 1) -> Report:
    shown = Shown(count, 24 * count, 1_000_000 * count, 10 * count)
    return Report(session, tenant, "painter", Tally(1).counted(run, shown))


async def told(ledger: UsageLedger, *reports: Report, teller: str = "a") -> list[int]:
    """Tells the ledger; returns what it has confirmed."""
    confirmed: list[int] = []
    ledger.report(teller, 1, reports, confirmed.append)
    await ledger.flush()
    return confirmed


async def test_what_is_told_again_counts_once_also_after_a_restart(
    ledger: UsageLedger, tmp_path: Path, wall: Wall
) -> None:
    for _ in range(2):
        assert await told(ledger, chunks("s", 5)) == [1]
    again = UsageLedger(tmp_path, wall=wall)
    await again.open()
    await told(again, chunks("s", 5), teller="b")
    await told(again, chunks("s", 7), teller="b")
    (row,) = await again.read(Question())
    assert (row.tenant, row.session, row.model, row.used.chunks) == ("t", "s", "painter", 7)
    assert again.totals([])[""].chunks == 7
    assert again.used("t", 3600.0).chunks == 7
    await again.close()


async def test_nothing_is_confirmed_that_is_not_written(
    ledger: UsageLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(ledger._file, "write", full)
        assert await told(ledger, chunks("s", 3)) == []
    confirmed: list[int] = []
    ledger.report("b", 9, [chunks("s", 4)], confirmed.append)
    await ledger.flush()
    assert confirmed == [9]
    (row,) = await ledger.read(Question())
    assert row.used.chunks == 4


async def test_a_message_too_many_is_not_taken_in(ledger: UsageLedger) -> None:
    many = [Report(f"s{number}", "t", "m") for number in range(MOST_WAITING + 1)]
    confirmed: list[int] = []
    ledger.report("a", 1, many, confirmed.append)
    await ledger.flush()
    assert confirmed == []
    assert await ledger.read(Question()) == []


async def test_usage_counts_in_the_hour_in_which_it_was_told(
    ledger: UsageLedger, wall: Wall
) -> None:
    await told(ledger, chunks("s", 1), chunks("o", 2, tenant="u"))
    wall.now += HOUR_S
    await told(ledger, chunks("s", 4))
    later = Question(since_hour=NOON // HOUR_S + 1)
    assert [(row.tenant, row.used.chunks) for row in await ledger.read(later)] == [("t", 3)]
    earlier = Question(by_session=False, until_hour=NOON // HOUR_S + 1)
    assert [(row.tenant, row.used.chunks) for row in await ledger.read(earlier)] == [
        ("t", 1),
        ("u", 2),
    ]
    assert ledger.used("t", 0.0).chunks == 3
    assert ledger.used("t", HOUR_S).chunks == 4


async def test_what_is_older_than_it_remembers_goes_and_the_totals_stay(
    ledger: UsageLedger, wall: Wall
) -> None:
    await told(ledger, chunks("s", 5))
    wall.now += 401 * 24 * HOUR_S
    await told(ledger, chunks("o", 1))
    await ledger.prune()
    assert [row.session for row in await ledger.read(Question())] == ["o"]
    assert ledger.totals([])[""].chunks == 6


async def test_parked_time_counts_once_also_over_a_restart_of_the_scheduler(
    ledger: UsageLedger, tmp_path: Path, wall: Wall
) -> None:
    await told(ledger, chunks("s", 1))
    ledger.parked("s", 3)
    await ledger.flush()
    wall.now += 100
    await ledger.count_parked()
    assert ledger.totals([])[""].parked_us == 100_000_000
    again = UsageLedger(tmp_path, wall=wall)
    await again.open()
    wall.now += 50
    # Another scheduler knows of the session only once somebody asks for its place.
    await again.count_parked()
    assert again.totals([])[""].parked_us == 100_000_000
    again.unparked("s")
    again.unparked("s")
    await again.flush()
    assert again.totals([])[""].parked_us == 150_000_000
    again.parked("s", 4)
    wall.now += 1
    again.unparked("s")
    await again.flush()
    assert again.totals([])[""].parked_us == 151_000_000
    await again.close()


async def test_a_damaged_file_is_put_aside(tmp_path: Path, wall: Wall) -> None:
    (tmp_path / usage_file.NAME).write_bytes(b"no database at all" * 100)
    ledger = UsageLedger(tmp_path, wall=wall)
    await ledger.open()
    await told(ledger, chunks("s", 1))
    assert ledger.totals([])[""].chunks == 1
    assert [path.name for path in tmp_path.iterdir() if "damaged" in path.name]
    await ledger.close()


async def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError):
        await UsageLedger(tmp_path / "file").open()


def said(session: str, count: int, **carried: int) -> placement_pb2.SessionUsage:
    shown = snapshot_pb2.ShownUsage(chunks=count, frames=24 * count)
    run = snapshot_pb2.RunUsage(number=1, shown=shown)
    tally = snapshot_pb2.UsageTally(origin=1, runs=[run])
    return placement_pb2.SessionUsage(
        session_id=session, tenant="t", model="m", tally=tally, term=1, **carried
    )


async def test_actor_and_gateway_tell_of_the_same_chunks_and_each_of_its_own_work(
    ledger: UsageLedger,
) -> None:
    metering = Metering(ledger, ["t"])
    enrollment = Enrollment(ActorId("a"), session_pb2.Capabilities())
    link = PresenceLink(GatewayId("g"))
    beat = placement_pb2.Heartbeat(usage=[said("s", 5, spent_us=70)], usage_number=4)
    metering.beat(enrollment, beat)
    news = placement_pb2.PresenceRequest(usage=[said("s", 6, bytes_out=9)], usage_number=2)
    metering.presence(link, news)
    await ledger.flush()
    (row,) = (await metering.read(usage_pb2.ReadUsageRequest())).rows
    assert (row.chunks, row.spent_us, row.bytes_out) == (6, 70, 9)
    enrollment.orders.close()
    link.news.close()
    assert [order.word async for order in enrollment.orders] == [UsageKept(4)]
    assert [each async for each in link.news] == [UsageKept(2)]
    described = placement_pb2.DescribePoolResponse()
    metering.describe(described)
    assert [(each.tenant, each.chunks) for each in described.usage] == [("t", 6), ("", 0)]


async def test_answers_come_in_pages(ledger: UsageLedger) -> None:
    await told(ledger, *(chunks(f"s{number}", 1 + number) for number in range(5)))
    metering = Metering(ledger)
    found: list[str] = []
    request = usage_pb2.ReadUsageRequest(page_size=2)
    while True:
        answer = await metering.read(request)
        found += [row.session_id for row in answer.rows]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert found == [f"s{number}" for number in range(5)]


@pytest.mark.parametrize("wrong", ["page_size", "page_token", "times"])
async def test_a_question_that_makes_no_sense_is_refused(ledger: UsageLedger, wrong: str) -> None:
    request = usage_pb2.ReadUsageRequest()
    match wrong:
        case "page_size":
            request.page_size = 5001
        case "page_token":
            request.page_token = "!"
        case "times":
            request.since.FromSeconds(NOON)
            request.until.FromSeconds(NOON - HOUR_S)
    with pytest.raises(BadArgumentError):
        await Metering(ledger).read(request)


async def test_tenants_that_no_configuration_names_are_told_together(ledger: UsageLedger) -> None:
    await told(ledger, *(chunks(f"s{name}", 1, tenant=name) for name in ("a", "b", "c")))
    assert {name: used.chunks for name, used in ledger.totals(["a", "z"]).items()} == {
        "": 2,
        "a": 1,
        "z": 0,
    }
    many = placement_pb2.DescribePoolResponse()
    Metering(ledger, [f"t{number}" for number in range(1000)]).describe(many)
    assert len(many.usage) == MOST_NAMED + 1


def test_usage_is_summed_figure_by_figure() -> None:
    one = Usage(chunks=1, bytes_out=2)
    assert one + one - one == one
    assert not (one - one)


async def test_spent_time_of_two_leases_is_summed(ledger: UsageLedger) -> None:
    for epoch in (7, 8, 7):
        report = Report("s", "t", "m", owner=ACTORS, term=epoch, carried=Carried(spent_us=5))
        await told(ledger, report)
    assert ledger.totals([])[""].spent_us == 10
