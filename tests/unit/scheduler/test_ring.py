"""The last entries of an endless list."""

from __future__ import annotations

import pytest

from scheduler.core.ring import Read, Ring

pytestmark = pytest.mark.unit


def filled(entries: int, *, limit: int = 4, begin: int = 100) -> Ring[str]:
    ring = Ring[str](limit, begin)
    for number in range(begin + 1, begin + 1 + entries):
        assert ring.add(f"e{number}") == number
    return ring


@pytest.mark.parametrize("entries", range(12))
def test_each_number_has_its_own_entry_however_often_the_ring_went_round(entries: int) -> None:
    ring = filled(entries)
    read = ring.after(0, 99)
    assert read.lost_before is None
    assert list(read.entries) == [(n, f"e{n}") for n in range(ring.first, ring.last + 1)]
    assert len(read.entries) == min(entries, 4)
    assert ring.newest_first() == tuple(entry for _, entry in reversed(read.entries))


def test_who_is_up_to_date_is_told_nothing() -> None:
    assert filled(3).after(103, 9) == Read(())
    assert filled(0).after(100, 9) == Read(())


def test_entries_are_read_on_in_order_and_some_at_once() -> None:
    ring = filled(4)
    assert ring.after(101, 2) == Read(((102, "e102"), (103, "e103")))
    assert ring.after(103, 2) == Read(((104, "e104"),))


def test_who_was_too_slow_learns_where_it_goes_on() -> None:
    ring = filled(6)
    assert ring.after(102, 1) == Read(((103, "e103"),))
    assert ring.after(101, 1) == Read(((103, "e103"),), lost_before=103)


@pytest.mark.parametrize("number", [50, 5000])
def test_a_place_in_another_ring_is_no_place_in_this_one(number: int) -> None:
    read = filled(2).after(number, 9)
    assert read.lost_before == 101
    assert [each for each, _ in read.entries] == [101, 102]


def test_a_reader_of_another_ring_learns_of_a_gap_although_nothing_has_come_since() -> None:
    assert filled(0).after(50, 9) == Read((), lost_before=101)
