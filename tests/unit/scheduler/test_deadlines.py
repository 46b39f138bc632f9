"""Deadlines that are moved more often than met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.deadlines import Deadlines

pytestmark = pytest.mark.unit


def test_the_earliest_is_next_and_they_come_in_order() -> None:
    deadlines = Deadlines[str]()
    assert deadlines.next() is None
    deadlines.set("late", 3.0)
    deadlines.set("early", 1.0)
    assert deadlines.next() == 1.0
    assert not deadlines.is_due(0.5)
    assert list(deadlines.due(3.0)) == ["early", "late"]
    assert deadlines.next() is None


def test_one_that_is_put_off_or_cleared_does_not_come() -> None:
    deadlines = Deadlines[str]()
    deadlines.set("x", 1.0)
    deadlines.set("y", 2.0)
    deadlines.set("x", 5.0)
    deadlines.clear("y")
    assert list(deadlines.due(4.0)) == []
    assert deadlines.next() == 5.0
    deadlines.bring_forward("x", 9.0)
    assert deadlines.next() == 5.0
    deadlines.bring_forward("x", 4.5)
    assert deadlines.get("x") == 4.5


def test_one_that_is_set_while_others_come_may_come_too() -> None:
    deadlines = Deadlines[str]()
    deadlines.set("x", 1.0)
    seen = []
    for key in deadlines.due(2.0):
        seen.append(key)
        if len(seen) < 3:
            deadlines.set("x", 2.0)
    assert seen == ["x", "x", "x"]


def test_putting_off_costs_no_memory() -> None:
    deadlines = Deadlines[str]()
    for second in range(10_000):
        deadlines.set("x", second + 3.0)
        assert list(deadlines.due(float(second))) == []
    assert len(deadlines._heap) == 1


KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("clear"), KEYS, st.just(0)),
        st.tuples(st.just("due"), st.just(""), st.integers(0, 20)),
    )
)


@given(STEPS)
def test_it_is_a_mapping_of_keys_to_times(steps: list[tuple[str, str, int]]) -> None:
    deadlines, model = Deadlines[str](), dict[str, float]()
    for verb, key, at in steps:
        if verb == "set":
            deadlines.set(key, float(at))
            model[key] = float(at)
        elif verb == "clear":
            deadlines.clear(key)
            model.pop(key, None)
        else:
            due = list(deadlines.due(float(at)))
            assert set(due) == {key for key, time in model.items() if time <= at}
            assert [model[key] for key in due] == sorted(model[key] for key in due)
            for key in due:
                del model[key]
        assert deadlines.next() == min(model.values(), default=None)
