"""UsageService and ReplayService over gRPC, `sana-gateway usage`, and what a gateway tells."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from gateway.auth import OPERATOR, SESSION, Access
from gateway.journals.reading import SessionJournals
from gateway.usage.command import COLUMNS, moment, usage
from gateway.usage.metrics import UsageCollector
from gateway.usage.telling import UsageTelling, next_term
from model_actor.replay.command import replay
from sana_gateway.v1 import replay_pb2, replay_pb2_grpc, usage_pb2, usage_pb2_grpc
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Grant, Principal
from scheduler.process import journal_store as store
from scheduler.process.storage import FilesystemStorage
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

CALLERS = {
    "acme": Principal("acme", frozenset({SESSION})),
    "other": Principal("other", frozenset({SESSION})),
    "operator": Principal("ops", frozenset({OPERATOR})),
    "narrow": Principal("acme", frozenset({SESSION}), grant=Grant(sessions=frozenset({"s9"}))),
    "none": Principal("acme", frozenset({"model"})),
}
ROWS = [
    usage_pb2.UsageRow(tenant="acme", session_id="s1", model="painter", chunks=3, streamed_us=1),
    usage_pb2.UsageRow(tenant="other", session_id="s2", model="painter", chunks=5),
]


class Tokens:
    """Knows some callers."""

    def authenticate(self, token: str | None) -> Principal:
        if token not in CALLERS:
            raise UnauthenticatedError("the token is unknown")
        return CALLERS[token]


@dataclass
class Ledger:
    """Answers as the scheduler would, a row at a time."""

    asked: list[usage_pb2.ReadUsageRequest] = field(default_factory=list)

    async def read(self, request: usage_pb2.ReadUsageRequest) -> usage_pb2.ReadUsageResponse:
        self.asked.append(request)
        rows = [
            row
            for row in ROWS
            if request.tenant in ("", row.tenant) and request.session_id in ("", row.session_id)
        ]
        first = int(request.page_token or 0)
        more = str(first + 1) if first + 1 < len(rows) else ""
        return usage_pb2.ReadUsageResponse(rows=rows[first : first + 1], next_page_token=more)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def journals(tmp_path: Path) -> SessionJournals:
    storage = FilesystemStorage(tmp_path)
    folder = store.folder_of(1_000_000_000, "s1")
    owner = store.JournalOwner(CALLERS["acme"], "painter")
    await storage.put(f"{folder}/{store.OWNER}", owner.write())
    for number, text in enumerate((b"one\n", b"two\n")):
        await storage.put(f"{folder}/{store.piece_name(7, number)}", text)
    return SessionJournals(storage, Access(lambda: None))


@pytest.fixture
async def address(ledger: Ledger, journals: SessionJournals) -> AsyncIterator[str]:
    services = replace(
        fake_services(FakeHub()), auth=Tokens(), usage=ledger.read, journals=journals.read
    )
    async with grpc_gateway(services) as listening:
        yield listening


async def rows(address: str, token: str, **asked: Any) -> list[str]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = usage_pb2_grpc.UsageServiceStub(channel)
        answer = await stub.ReadUsage(
            usage_pb2.ReadUsageRequest(**asked), metadata=(("authorization", f"Bearer {token}"),)
        )
    return [row.session_id for row in answer.rows]


async def journal(address: str, token: str, session: str = "s1") -> bytes:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = replay_pb2_grpc.ReplayServiceStub(channel)
        request = replay_pb2.ExportJournalRequest(session_id=session)
        call = stub.ExportJournal(request, metadata=(("authorization", f"Bearer {token}"),))
        return b"".join([piece.data async for piece in call])


async def refusal(call: Awaitable[object]) -> grpc.StatusCode:
    """Returns how a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    return code


async def test_a_tenant_reads_its_own_usage_and_nobody_elses(address: str, ledger: Ledger) -> None:
    assert await rows(address, "acme") == ["s1"]
    assert await rows(address, "acme", tenant="other") == []
    assert await rows(address, "acme", session_id="s2") == []
    assert await rows(address, "acme", tenant="other", session_id="s1") == []
    assert {each.tenant for each in ledger.asked} == {"acme"}
    assert await rows(address, "operator", tenant="other") == ["s2"]
    assert await rows(address, "operator", page_token="1") == ["s2"]


@pytest.mark.parametrize(
    ("token", "asked", "code"),
    [
        ("narrow", {}, grpc.StatusCode.PERMISSION_DENIED),
        ("narrow", {"session_id": "s1"}, grpc.StatusCode.PERMISSION_DENIED),
        ("none", {}, grpc.StatusCode.PERMISSION_DENIED),
        ("nobody", {}, grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_who_may_not_read_usage_is_refused(
    address: str, token: str, asked: dict[str, str], code: grpc.StatusCode
) -> None:
    assert await refusal(rows(address, token, **asked)) is code


async def test_a_token_for_one_session_reads_that_one(address: str) -> None:
    assert await rows(address, "narrow", session_id="s9") == []


async def test_a_journal_is_its_tenants_and_the_operators(address: str) -> None:
    for token in ("acme", "operator"):
        assert await journal(address, token) == b"one\ntwo\n"
    for token, session in (("other", "s1"), ("acme", "s2"), ("acme", "../s1"), ("acme", "a" * 200)):
        assert await refusal(journal(address, token, session)) is grpc.StatusCode.NOT_FOUND
    assert await refusal(journal(address, "narrow")) is grpc.StatusCode.PERMISSION_DENIED
    assert await refusal(journal(address, "acme", "")) is grpc.StatusCode.INVALID_ARGUMENT


async def test_journals_of_old_days_go(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    day_s = 86400.0
    for day in range(5):
        folder = store.folder_of(1_000_000_000 + day * day_s, "s1")
        await storage.put(f"{folder}/{store.OWNER}", b"{}")
    assert await store.sweep(storage, 1_000_000_000 + 4 * day_s, 2 * day_s) == 2
    assert len(await storage.names(store.ROOT, "", 10)) == 3
    assert await store.find(storage, "s1") == store.folder_of(1_000_000_000 + 4 * day_s, "s1")
    with pytest.raises(store.BadJournalError):
        store.JournalOwner.read(b"{}")


def invoke(app: Any, *words: str) -> Any:
    return CliRunner().invoke(app, [*words])


async def test_the_command_prints_csv_page_by_page(address: str) -> None:
    words = ("--csv", "--address", address, "--token", "operator", "--since", "24h")
    result = await asyncio.to_thread(invoke, usage, *words)
    assert result.exit_code == 0, result.output
    told = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [each["session"] for each in told] == ["s1", "s2"]
    assert list(told[0]) == list(COLUMNS)
    assert (told[1]["chunks"], told[0]["streamed_minutes"]) == ("5", "0.000000")


async def test_the_command_prints_a_table_and_asks_as_told(address: str, ledger: Ledger) -> None:
    words = ("--by", "tenant", "--tenant", "acme", "--since", "2026-11-01", "--until", "1h")
    result = await asyncio.to_thread(
        invoke, usage, *words, "--address", address, "--token", "operator"
    )
    assert result.exit_code == 0, result.output
    assert "acme" in result.stdout
    (asked,) = ledger.asked
    assert asked.by == usage_pb2.USAGE_BY_TENANT
    assert asked.since.ToDatetime() == dt.datetime(2026, 11, 1)  # noqa: DTZ001 - as it is given
    assert asked.until.seconds > asked.since.seconds


async def test_a_journal_is_exported_to_a_file_or_not_at_all(address: str, tmp_path: Path) -> None:
    target = tmp_path / "bug.journal"
    words = ("--export", "s1", str(target), "--address", address)
    result = await asyncio.to_thread(invoke, replay, *words, "--token", "acme")
    assert result.exit_code == 0, result.output
    assert target.read_bytes() == b"one\ntwo\n"
    target.unlink()
    result = await asyncio.to_thread(invoke, replay, *words, "--token", "other")
    assert "no journal" in str(result.exception)
    assert list(tmp_path.glob("*bug*")) == []


def test_times_are_read_as_people_write_them() -> None:
    now = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
    assert moment("24h", "--since", now) == now - dt.timedelta(days=1)
    assert moment("2026-11-01T12:00+02:00", "--since", now).utctimetuple().tm_hour == 10
    with pytest.raises(ConfigurationError):
        moment("yesterday", "--since", now)


def test_only_tenants_that_are_told_by_name_have_series() -> None:
    families = {each.name: each for each in UsageCollector(lambda: ROWS).collect()}
    chunks = families["sana_gateway_usage_chunks"]
    assert {sample.labels["tenant"]: sample.value for sample in chunks.samples} == {
        "acme": 3,
        "other": 5,
    }
    streamed = families["sana_gateway_usage_streamed_seconds"].samples
    assert streamed[0].value == pytest.approx(1e-6)


@dataclass
class Session:
    """A session as it is metered."""

    session_id: str
    bytes_out: int = 0
    bytes_in: int = 0
    model: str = "painter"
    principal: Principal = CALLERS["acme"]
    shown: snapshot_pb2.UsageTally | None = None
    term: int = field(default_factory=next_term)


def test_what_is_not_confirmed_is_told_again_and_what_is_newer_instead() -> None:
    one, two = Session("s1", bytes_out=5), Session("s2")
    sessions = [one, two]
    telling = UsageTelling(lambda: sessions, {"s1": 70}.get)  # type: ignore[arg-type]
    number, told = telling.take()
    assert [(each.session_id, each.bytes_out) for each in told] == [("s1", 5), ("s2", 0)]
    assert told[0].uploaded_bytes == 70
    assert telling.take() == (0, [])
    one.bytes_out = 9
    telling.again()
    second, told = telling.take()
    assert sorted((each.session_id, each.bytes_out) for each in told) == [("s1", 9), ("s2", 0)]
    telling.kept(number)
    telling.again()
    assert len(telling.take()[1]) == 2
    telling.kept(second + 1)
    telling.again()
    assert telling.take() == (0, [])


def test_the_last_word_of_a_session_that_ended_is_told_until_it_is_kept() -> None:
    session = Session("s1", bytes_out=5)
    sessions = [session]
    telling = UsageTelling(lambda: sessions, lambda _: 0)
    number, _ = telling.take()
    telling.kept(number)
    session.bytes_out = 6
    telling.ended(session)
    sessions.clear()
    for _ in range(2):
        number, told = telling.take()
        assert [each.bytes_out for each in told] == [6]
        telling.again()
    again = Session("s1", bytes_out=1)
    assert again.term > session.term
