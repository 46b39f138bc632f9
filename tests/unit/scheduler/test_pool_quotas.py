"""Quotas in the pool: two gateways cannot double them, and sessions end when they are used up."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from scheduler import wire
from scheduler.core import pool_events as ev
from scheduler.core.errors import ConfigurationError, LimitError, UnknownSessionError
from scheduler.core.ids import Epoch, GatewayId, Holder, Principal, SessionId
from scheduler.core.quotas import Quotas
from scheduler.core.rations import ENDING_S, OVERTIME
from scheduler.core.tenants import TenantRules
from scheduler.quota_file import QuotaFile
from tests.unit.scheduler.pool_driver import MODEL, PRINCIPAL, STAYING, PoolDriver

pytestmark = pytest.mark.unit

KEY = Holder("key:web", quotas=Quotas(sessions_per_minute=2))
ALL = Quotas(
    sessions_per_minute=1,
    streamed_per_day=2.5,
    streamed_per_month=3.0,
    uploads_per_session=4,
    uploads_per_day=5,
    stored=6,
)


def driver_of(rules: TenantRules) -> PoolDriver:
    made = PoolDriver(dataclasses.replace(STAYING, tenants={PRINCIPAL.tenant: rules}))
    made.actor("a", slots=8)
    return made


def ask(
    driver: PoolDriver,
    session: str,
    *holders: Holder,
    gateway: str = "gateway",
    waited: float = 0.0,
    restore: bool = False,
) -> None:
    owner = dataclasses.replace(PRINCIPAL, holders=holders)
    asked = ev.PlaceAsked(
        SessionId(session), MODEL, owner, GatewayId(gateway), waited, restore=restore
    )
    for effect in driver.tell(asked):
        if isinstance(effect, ev.Admit):
            driver.tell(ev.AdmitAnswered(effect.actor, effect.session, effect.epoch))
            driver.connect(session)


def ended(effects: list[ev.Effect]) -> dict[str, str]:
    return {each.session: each.reason for each in effects if isinstance(each, ev.Ended)}


def test_sessions_a_minute_hold_over_all_gateways() -> None:
    driver = driver_of(TenantRules())
    ask(driver, "s0", KEY)
    ask(driver, "s1", KEY, gateway="another")
    with pytest.raises(LimitError, match="no more than 2 new sessions a minute") as refusal:
        ask(driver, "s2", KEY, gateway="a third")
    assert refusal.value.quota == "sessions_per_minute"
    assert refusal.value.retry_after_s == pytest.approx(60.0)
    # Ended ones were created all the same.
    driver.release("s0")
    with pytest.raises(LimitError):
        ask(driver, "s2", KEY)
    driver.wait(60.1)
    ask(driver, "s2", KEY)


def test_a_session_that_was_refused_or_existed_is_not_counted_as_new() -> None:
    driver = driver_of(TenantRules(quotas=Quotas(sessions_per_minute=1)))
    with pytest.raises(LimitError):
        ask(driver, "full", Holder("key:none", 0))
    ask(driver, "s0")
    ask(driver, "s0")
    with pytest.raises(LimitError, match="of this tenant"):
        ask(driver, "s1")
    ask(driver, "old", restore=True)
    ask(driver, "resubmitted", waited=3.0)


def test_a_tenant_and_its_keys_have_quotas_of_their_own() -> None:
    driver = driver_of(TenantRules(quotas=Quotas(sessions_per_minute=3)))
    ask(driver, "s0", KEY)
    ask(driver, "s1", KEY)
    with pytest.raises(LimitError, match="key or token"):
        ask(driver, "s2", KEY)
    ask(driver, "s2", Holder("key:other"))
    with pytest.raises(LimitError, match="of this tenant"):
        ask(driver, "s3", Holder("key:other"))


def test_quotas_of_a_tenant_from_both_sides_count_together() -> None:
    driver = driver_of(TenantRules(quotas=Quotas(sessions_per_minute=5)))
    told = Holder(f"tenant:{PRINCIPAL.tenant}", quotas=Quotas(sessions_per_minute=1))
    ask(driver, "s0", told)
    with pytest.raises(LimitError, match="no more than 1 "):
        ask(driver, "s1", told)
    ask(driver, "s1", Holder("key:other"))


def test_sessions_end_when_the_time_of_the_day_is_used_up() -> None:
    driver = driver_of(TenantRules(quotas=Quotas(streamed_per_day=100.0)))
    ask(driver, "s0")
    driver.wait(40.0)
    ask(driver, "s1")
    assert not ended(driver.wait(29.0))
    reasons = ended(driver.wait(2.0))
    assert reasons == dict.fromkeys(
        ("s0", "s1"), "the time that may be streamed in this day is used up"
    )
    with pytest.raises(LimitError) as refusal:
        ask(driver, "s2")
    assert refusal.value.quota == "streamed_per_day"


def test_a_session_that_ended_leaves_its_time_to_the_others() -> None:
    driver = driver_of(TenantRules(quotas=Quotas(streamed_per_day=100.0)))
    ask(driver, "s0")
    ask(driver, "s1")
    driver.wait(20.0)
    driver.release("s1")
    assert not ended(driver.wait(59.0))
    assert ended(driver.wait(2.0)).keys() == {"s0"}


def test_a_tenants_longest_session_is_ended_by_the_scheduler_where_no_gateway_does() -> None:
    driver = driver_of(TenantRules(max_session_s=50.0))
    ask(driver, "s0")
    lease = driver.pool.lease(SessionId("s0"))
    assert lease.principal.ends_at == driver.now + 50.0
    assert not ended(driver.wait(50.0 + ENDING_S - 1))
    assert ended(driver.wait(1.5)) == {"s0": OVERTIME}


def test_the_end_of_a_session_outlives_the_scheduler() -> None:
    driver = PoolDriver()
    owner = dataclasses.replace(PRINCIPAL, ends_at=driver.now + 10.0)
    held = ev.Held(SessionId("s0"), Epoch(1), computing=False, principal=owner, model=MODEL)
    driver.actor("a", held=(held,))
    driver.connect("s0")
    assert ended(driver.wait(10.0 + ENDING_S + 1)) == {"s0": OVERTIME}


def test_uploads_are_counted_for_the_owner_of_the_session() -> None:
    driver = driver_of(TenantRules(quotas=Quotas(stored=100)))
    ask(driver, "s0")
    ask(driver, "s1")
    driver.tell(ev.UploadAsked(SessionId("s0"), "u0", 60))
    driver.tell(ev.UploadAsked(SessionId("s0"), "u0", 60))
    with pytest.raises(LimitError, match="100 bytes") as refusal:
        driver.tell(ev.UploadAsked(SessionId("s1"), "u1", 41))
    assert refusal.value.quota == "stored"
    driver.release("s0")
    driver.tell(ev.UploadAsked(SessionId("s1"), "u1", 41))
    with pytest.raises(UnknownSessionError):
        driver.tell(ev.UploadAsked(SessionId("nobody"), "u", 1))


def test_quotas_cross_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    sent = Principal("acme", frozenset({"session"}), (Holder("key:web", 3, ALL), Holder("token:1")))
    assert wire.principal_in(wire.principal_out(sent)) == sent


async def test_what_was_counted_is_read_again(tmp_path: Path) -> None:
    path = str(tmp_path / "quotas.json")
    assert QuotaFile(path, dict).read() is None
    driver = driver_of(TenantRules(quotas=Quotas(streamed_per_day=100.0)))
    ask(driver, "s0")
    driver.wait(90.0)
    await QuotaFile(path, lambda: driver.pool.rations.dump(driver.now)).close()
    assert Path(path).stat().st_mode & 0o77 == 0
    after = driver_of(TenantRules(quotas=Quotas(streamed_per_day=100.0)))
    kept = QuotaFile(path, dict).read()
    assert kept is not None
    after.pool.rations.usage.load(kept)
    ask(after, "s1")
    assert ended(after.wait(11.0)).keys() == {"s1"}


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_a_file_of_counts_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "quotas.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match="remove it to count from nothing"):
        QuotaFile(str(path), dict).read()
