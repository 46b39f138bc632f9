"""Usage is counted once: whatever dies, and however reports of it are repeated and reordered."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.metering import (
    ACTORS,
    KEPT_RUNS,
    Account,
    Carried,
    Report,
    Shown,
    Tally,
    added,
    larger,
)
from scheduler.metering.text import read_account, write_account

pytestmark = pytest.mark.properties

US = 1_000_000


@dataclass
class World:
    """One session, whose actors and gateways die, and everything that was ever told of it."""

    random: random.Random
    epoch: int = 1
    run: int = 1
    chunk: int = 0
    shown: dict[tuple[int, int], int] = field(default_factory=dict)
    """(run, chunk) of all that clients saw the end of, and what its first showing cost."""
    spent: int = 0
    tally: Tally = field(default_factory=lambda: Tally(1))
    spent_here: int = 0
    kept: list[tuple[Tally, int, int]] = field(default_factory=list)
    """Snapshots that lie somewhere, with the run and the chunk that they go on from."""
    told: list[Report] = field(default_factory=list)

    def show(self) -> None:
        """Makes a chunk, and shows it to its end."""
        cost = self.random.randrange(1, 50)
        self.shown.setdefault((self.run, self.chunk), cost)
        self.spent += cost
        self.spent_here += cost
        self.tally = self.tally.counted(self.run, Shown(1, 24, US, cost))
        self.chunk += 1

    def begin(self) -> None:
        """Begins the next run."""
        self.run, self.chunk = self.run + 1, 0

    def keep(self) -> None:
        """Keeps a snapshot."""
        self.kept.append((self.tally, self.run, self.chunk))

    def tell(self) -> None:
        """The actor tells what it knows."""
        carried = Carried(spent_us=self.spent_here)
        self.told.append(Report("s", "t", "m", self.tally, ACTORS, self.epoch, carried))

    def move(self) -> None:
        """Another actor goes on, with all that was shown."""
        self.tell()
        self.epoch, self.spent_here = self.epoch + 1, 0

    def fall_back(self) -> None:
        """Actor and gateways die: another one goes on from an older snapshot of this run, and
        shows again what was shown since.
        """
        usable = [each for each in self.kept if each[1] == self.run]
        if usable:
            self.tell()
            self.tally, self.run, self.chunk = self.random.choice(usable)
            self.epoch, self.spent_here = self.epoch + 1, 0


DEEDS = ("show", "show", "show", "begin", "keep", "tell", "move", "fall_back")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(DEEDS), max_size=60), st.integers(0, 2**32))
def test_a_chunk_counts_once_whatever_dies_and_in_whatever_order_that_is_told(
    deeds: list[str], seed: int
) -> None:
    world = World(random.Random(seed))
    for deed in deeds:
        getattr(world, deed)()
        world.tell()
    reports = world.told * 2
    world.random.shuffle(reports)
    account = Account()
    for number, report in enumerate(reports):
        if number % 7 == 0:
            account = read_account(write_account(account))
        before, account = account, account.merged(report)
        assert not any(value < 0 for value in _figures(account, before))
    runs = {run for run, _ in world.shown}
    if len(runs) <= KEPT_RUNS:
        assert account.total.chunks == len(world.shown)
        assert account.total.frames == 24 * len(world.shown)
        assert account.total.streamed_us == US * len(world.shown)
    else:
        assert account.total.chunks <= len(world.shown)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(("show", "begin", "tell", "move")), max_size=80), st.integers())
def test_without_a_loss_the_last_report_says_all_however_many_runs_there_were(
    deeds: list[str], seed: int
) -> None:
    world = World(random.Random(seed))
    for deed in deeds:
        getattr(world, deed)()
    world.tell()
    in_order = Account()
    for report in world.told:
        in_order = in_order.merged(report)
    assert in_order.total.chunks == len(world.shown)
    assert in_order.total.compute_us == sum(world.shown.values())
    assert in_order.total.spent_us == world.spent


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_reports_can_be_joined_before_they_are_taken_in(data: st.DataObject) -> None:
    figures = st.integers(0, 9)
    shown = st.builds(Shown, figures, figures, figures, figures)
    tallies = st.builds(
        Tally, st.just(3), st.just(0), st.just(Shown()), st.dictionaries(st.integers(1, 4), shown)
    )
    reports = st.builds(
        Report,
        st.just("s"),
        st.just("t"),
        st.just("m"),
        tallies,
        st.just("g"),
        st.just(1),
        st.builds(Carried, figures, figures, figures),
    )
    told = data.draw(st.lists(reports, min_size=1, max_size=6))
    one_by_one, joined = Account(), None
    for report in told:
        one_by_one = one_by_one.merged(report)
        joined = report.joined(joined)
    assert joined is not None
    assert Account().merged(joined).total == one_by_one.total


def test_what_is_counted_from_another_beginning_is_other_work() -> None:
    one = Report("s", "t", "m", Tally(1).counted(1, Shown(5, 120, 5 * US, 10)))
    other = Report("s", "t", "m", Tally(9).counted(1, Shown(2, 48, 2 * US, 4)))
    assert Account().merged(one).merged(other).merged(one).total.chunks == 7


def test_terms_of_gateways_are_summed_and_an_old_one_is_heard_no_more() -> None:
    account = Account()
    for term in range(1, 9):
        told = Report("s", "t", "m", owner="g1", term=term, carried=Carried(bytes_out=10))
        account = account.merged(told).merged(told)
    assert account.total.bytes_out == 80
    late = Report("s", "t", "m", owner="g1", term=2, carried=Carried(bytes_out=10_000))
    assert account.merged(late).total.bytes_out == 80
    assert (
        account.merged(
            Report("s", "t", "m", owner="g2", term=1, carried=Carried(bytes_out=5))
        ).total.bytes_out
        == 85
    )


def test_the_larger_is_taken_figure_by_figure() -> None:
    assert larger(Shown(1, 20, 3, 0), Shown(2, 10, 3, 5)) == Shown(2, 20, 3, 5)
    assert added([Shown(1, 2, 3, 4), Shown(10, 20, 30, 40)], Shown) == Shown(11, 22, 33, 44)


def _figures(after: Account, before: Account) -> list[int]:
    more = after.total - before.total
    return [getattr(more, name) for name in more.__slots__]
