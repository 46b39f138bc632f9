"""What subjects used of their quotas: time of days and months, bytes, and what is kept of it."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from scheduler.core.errors import LimitError
from scheduler.core.quotas import DAY, DAY_S, MONTH, Quotas, Tally, month_ends
from scheduler.core.usage import PlaceTime, Usage

pytestmark = pytest.mark.unit

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC).timestamp()
MIDNIGHT = NOON + DAY_S / 2


def test_of_two_quotas_the_smaller_one_holds() -> None:
    one = Quotas(sessions_per_minute=3, stored=100)
    other = Quotas(sessions_per_minute=5, uploads_per_day=7)
    both = Quotas(sessions_per_minute=3, stored=100, uploads_per_day=7)
    assert one.within(other) == other.within(one) == both


def test_a_month_ends_with_the_year_too() -> None:
    december = dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC).timestamp()
    assert month_ends(december) == december + 3600
    assert month_ends(NOON) == dt.datetime(2026, 12, 1, tzinfo=dt.UTC).timestamp()


def test_all_sessions_of_a_subject_add_up_while_they_stream() -> None:
    time = PlaceTime()
    time.begin("s0", ("tenant:a", "key:b"), NOON)
    time.begin("s1", ("tenant:a",), NOON + 10)
    time.begin("s1", ("tenant:a",), NOON + 15)
    assert time.used_s("tenant:a", DAY, NOON + 20) == pytest.approx(30)
    assert time.end("s0", NOON + 20) == ("tenant:a", "key:b")
    assert time.end("s0", NOON + 25) == ()
    assert time.used_s("tenant:a", DAY, NOON + 30) == pytest.approx(40)
    assert time.used_s("key:b", MONTH, NOON + 30) == pytest.approx(20)
    assert time.running("tenant:a") == ("s1",)
    assert time.running("key:b") == ()


def test_a_new_day_begins_with_nothing_and_the_month_goes_on() -> None:
    time = PlaceTime()
    time.begin("s0", ("a",), NOON)
    time.end("s0", NOON + 100)
    time.begin("s1", ("a",), MIDNIGHT - 50)
    assert time.used_s("a", DAY, MIDNIGHT + 20) == pytest.approx(20)
    assert time.used_s("a", MONTH, MIDNIGHT + 20) == pytest.approx(170)
    time.end("s1", MIDNIGHT + 20)
    assert time.used_s("a", DAY, MIDNIGHT + 30) == pytest.approx(20)


def test_time_that_is_used_up_refuses_the_next_session_until_the_day_ends() -> None:
    usage, subjects = Usage(), {"tenant:a": Quotas(streamed_per_day=60.0)}
    used_up = usage.begin("s0", subjects, NOON)
    assert used_up == {"tenant:a": pytest.approx(NOON + 60)}
    usage.may_create(subjects, 0.0, NOON + 59)
    with pytest.raises(LimitError, match="in this day is used up") as refusal:
        usage.may_create(subjects, 0.0, NOON + 60)
    assert refusal.value.quota == "streamed_per_day"
    assert refusal.value.retry_after_s == pytest.approx(MIDNIGHT - NOON - 60)
    assert usage.overspent("tenant:a", subjects["tenant:a"], NOON + 60) is DAY
    assert usage.overspent("tenant:a", subjects["tenant:a"], MIDNIGHT + 1) is None


def test_two_sessions_use_up_what_is_left_twice_as_fast() -> None:
    usage, subjects = Usage(), {"a": Quotas(streamed_per_day=60.0, streamed_per_month=1000.0)}
    usage.begin("s0", subjects, NOON)
    assert usage.begin("s1", subjects, NOON + 20) == {"a": pytest.approx(NOON + 40)}


def test_who_has_no_quota_of_time_is_not_remembered() -> None:
    usage = Usage()
    assert usage.begin("s0", {"a": Quotas(stored=5)}, NOON) == {}
    assert usage.streamed.end("s0", NOON + 1) == ()


@pytest.mark.parametrize("name", ["uploads_per_session", "uploads_per_day", "stored"])
def test_bytes_over_a_quota_are_refused_by_its_name(name: str) -> None:
    usage, subjects = Usage(), {"tenant:a": Quotas(**{name: 100})}  # type: ignore[arg-type]
    usage.reserve("s0", "u0", 60, subjects, NOON)
    usage.reserve("s0", "u0", 60, subjects, NOON)
    with pytest.raises(LimitError, match="100 bytes") as refusal:
        usage.reserve("s0", "u1", 41, subjects, NOON)
    assert refusal.value.quota == name
    assert (refusal.value.retry_after_s is not None) == (name == "uploads_per_day")
    usage.reserve("s0", "u1", 40, subjects, NOON)


def test_what_a_session_stored_is_free_when_it_ends_and_what_it_uploaded_is_not() -> None:
    usage, subjects = Usage(), {"a": Quotas(stored=100, uploads_per_day=150)}
    usage.reserve("s0", "u0", 100, subjects, NOON)
    with pytest.raises(LimitError) as refusal:
        usage.reserve("s1", "u1", 50, subjects, NOON)
    assert refusal.value.quota == "stored"
    usage.forget("s0")
    usage.forget("s0")
    usage.reserve("s1", "u1", 50, subjects, NOON)
    usage.forget("s1")
    with pytest.raises(LimitError) as refusal:
        usage.reserve("s2", "u2", 1, subjects, NOON)
    assert refusal.value.quota == "uploads_per_day"
    usage.reserve("s2", "u2", 100, subjects, MIDNIGHT)


def test_what_is_kept_goes_on_where_it_was() -> None:
    before, subjects = Usage(), {"a": Quotas(streamed_per_day=100.0, uploads_per_day=100)}
    before.begin("s0", subjects, NOON)
    before.streamed.end("s0", NOON + 30)
    before.begin("s1", subjects, NOON + 30)
    before.reserve("s1", "u", 90, subjects, NOON)
    after = Usage()
    after.load(json.loads(json.dumps(before.dump(NOON + 60))))
    assert after.streamed.used_s("a", DAY, NOON + 60) == pytest.approx(60)
    assert after.left_s("a", subjects["a"], NOON + 60) == pytest.approx(40)
    with pytest.raises(LimitError):
        after.reserve("s9", "u", 11, subjects, NOON + 60)
    # Looking changes nothing.
    assert before.streamed.used_s("a", DAY, NOON + 60) == pytest.approx(60)


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"streamed": {}, "uploaded": {}},
        {"streamed": [], "uploaded": {"period": "2026-11-23", "sums": {}}},
        {"streamed": {}, "uploaded": {"period": "2026-11-23", "sums": {"a": -1}}},
        {"streamed": {}, "uploaded": {"period": "2026-11-23", "sums": {"a": True}}},
        {"streamed": {"day": {"period": 5, "sums": {}}}, "uploaded": {"period": "", "sums": {}}},
    ],
)
def test_what_is_kept_in_another_form_is_refused(kept: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"period|sum|parts"):
        Usage().load(kept)


def test_a_tally_forgets_the_day_before() -> None:
    tally = Tally(DAY)
    tally.add("a", 5, NOON)
    assert tally.of("a", NOON) == 5
    assert tally.of("a", MIDNIGHT) == 0
    tally.add("b", 1, MIDNIGHT)
    assert tally.dump()["sums"] == {"b": 1}
