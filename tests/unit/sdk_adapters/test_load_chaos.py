"""Chaos: when deeds are done, which are refused, and what each did to whom."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scheduler.scenario import ConfigurationError
from scheduler.scenario.pool import ModelCosts, PoolSpec
from sdk_adapters.harness import chaos, deeds
from sdk_adapters.harness.chaos import Done, Freeze, Hand, Step, checked, settle, steps
from sdk_adapters.harness.deeds import DEEDS, Deed, DeedError, Kind
from sdk_adapters.harness.generator import Target
from sdk_adapters.harness.records import Event
from sdk_adapters.harness.report.model import Service
from sdk_adapters.harness.stack import Role, Stack, StackOptions
from tests.unit.sdk_adapters.load_runs import scenario

pytestmark = pytest.mark.unit

POOL = PoolSpec(gpus=2, model=ModelCosts(chunk_ms=100))


def stack(**options: Any) -> Stack:
    """A stack of one's own that does not run."""
    role = Role("nobody", (), "tag", Path(), Path())
    made = StackOptions(POOL, **options)
    return Stack(made, Target(()), Service(), role, [role], Path())


# -- when ----------------------------------------------------------------------------------------


def test_deeds_are_spread_over_the_measured_time_with_calm_at_both_ends() -> None:
    asked = scenario(duration=100, warm_up=10)
    wanted = (Deed.KILL_ACTOR, Deed.KILL_GATEWAY, Deed.DRAIN_ACTOR)
    assert steps(asked, wanted) == (
        Step(pytest.approx(18.0), Deed.KILL_ACTOR),
        Step(pytest.approx(54.0), Deed.KILL_GATEWAY),
        Step(pytest.approx(90.0), Deed.DRAIN_ACTOR),
    )


def test_a_single_deed_leaves_time_for_what_follows() -> None:
    (only,) = steps(scenario(duration=100, warm_up=10), (Deed.KILL_ACTOR,))
    assert only.at_s == pytest.approx(18.0)


# -- what is refused -----------------------------------------------------------------------------


def test_everything_may_be_done_to_a_stack_of_ones_own() -> None:
    own = stack(killable=True, media_workers=2)
    assert checked((), own) == chaos.USUAL
    assert checked(tuple(Deed), own) == tuple(Deed)


def test_threads_cannot_be_killed() -> None:
    with pytest.raises(ConfigurationError, match="threads"):
        checked((), stack())


def test_media_workers_are_killed_only_where_there_are_some() -> None:
    with pytest.raises(ConfigurationError, match="media-workers"):
        checked((Deed.KILL_WORKER,), stack(killable=True))


def test_processes_of_others_are_not_killed() -> None:
    with pytest.raises(ConfigurationError, match="kill-actor, kill-gateway"):
        checked((Deed.KILL_ACTOR, Deed.DRAIN_ACTOR, Deed.KILL_GATEWAY), None)


def test_actors_of_others_are_drained_only_when_that_is_said() -> None:
    with pytest.raises(ConfigurationError, match="drain-actor"):
        checked((), None)
    assert checked((Deed.DRAIN_ACTOR,), None) == (Deed.DRAIN_ACTOR,)


def test_a_lost_session_fails_whatever_the_scenario_asks() -> None:
    assert chaos.strict(scenario()).slo["sessions_lost"].total == 0
    lax = scenario(slo={"sessions_lost": {"total": 3}})
    assert chaos.strict(lax).slo["sessions_lost"].total == 3


def test_every_deed_stands_in_the_table() -> None:
    assert DEEDS.keys() == set(Deed)


# -- what came of it -----------------------------------------------------------------------------


def done(deed: Deed, began_s: float, ended_s: float | None = None, **changes: Any) -> Done:
    """A deed that was done."""
    over = began_s if ended_s is None else ended_s
    return Done(deed, began_s, began_s, over, what="it was done", **changes)


def settled(each: Done, *freezes: Sequence[Freeze]) -> Done:
    """Settles a deed; returns it."""
    settle([each], dict(enumerate(freezes)))
    return each


def test_recovery_lasts_until_the_last_picture_goes_on() -> None:
    each = settled(
        done(Deed.KILL_ACTOR, 20.0), [(20.5, 21.0)], [(20.4, 22.2)], [(5.0, 6.0)], [(30.0, 31.0)]
    )
    assert each.affected == 2
    assert each.recovery_s == pytest.approx(2.2)
    assert each.longest_s == pytest.approx(1.8)
    assert each.standing == 0


def test_a_picture_that_stood_before_stands_for_another_reason() -> None:
    assert settled(done(Deed.KILL_ACTOR, 20.0), [(19.0, 22.0)]).affected == 0


def test_a_picture_that_never_goes_on_is_told_apart() -> None:
    each = settled(done(Deed.KILL_ACTOR, 20.0), [(20.5, math.inf)], [(20.5, 21.0)])
    assert (each.affected, each.standing) == (2, 1)
    assert each.recovery_s == pytest.approx(1.0)
    assert "1 never went on" in each.line()


def test_a_drain_is_no_moment_so_that_there_is_no_time_since_it() -> None:
    each = settled(done(Deed.DRAIN_ACTOR, 20.0, 40.0), [(30.0, 30.2)], [(41.0, 41.3)])
    assert each.affected == 2
    assert each.recovery_s is None
    assert each.longest_s == pytest.approx(0.3)


def test_what_follows_the_next_deed_is_the_next_ones_doing() -> None:
    first, second = done(Deed.KILL_ACTOR, 20.0), done(Deed.KILL_SCHEDULER, 21.0)
    settle([first, second], {0: [(21.5, 23.0)]})
    assert first.affected == 0
    assert second.recovery_s == pytest.approx(2.0)


def test_a_deed_is_told_in_words() -> None:
    each = settled(done(Deed.KILL_ACTOR, 20.0, whole_s=28.5), [(20.5, 21.5)])
    assert each.line() == (
        "it was done at 20.0 s; 1 stood, for up to 1.00 s; the last went on after 1.50 s; "
        "pool whole after 8.5 s"
    )
    assert "no picture stood; the pool was not whole again" in done(Deed.KILL_ACTOR, 3.0).line()
    failed = done(Deed.KILL_WORKER, 3.0, failure="there is none")
    assert failed.line() == "kill-worker at 3.0 s could not be done: there is none"


# -- doing them ----------------------------------------------------------------------------------


@dataclass
class Pool:
    """A pool that deeds are done to; stands for a `Site`."""

    actors: int = 3
    deeds: list[str] = field(default_factory=list)

    async def healthy(self) -> int:
        return self.actors

    async def until_healthy(self, actors: int) -> None:
        assert actors == self.actors
        self.deeds.append("whole")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[Deed, Kind]:
    """A table in which one deed can be done and another cannot."""

    async def works(site: Any) -> str:
        site.deeds.append("done")
        return "it was done"

    async def fails(_: Any) -> str:
        raise DeedError("there is none")

    made = {Deed.KILL_ACTOR: Kind("works", works), Deed.KILL_WORKER: Kind("fails", fails)}
    monkeypatch.setattr(chaos, "DEEDS", made)
    monkeypatch.setattr(deeds, "DEEDS", made)
    return made


async def test_each_deed_waits_for_its_time_and_for_a_whole_pool(table: Any) -> None:
    del table
    pool, happenings = Pool(), list[Event]()
    loop = asyncio.get_running_loop()
    began: asyncio.Future[float] = loop.create_future()
    hand = Hand(pool, happenings)  # type: ignore[arg-type]
    doing = asyncio.create_task(
        hand.do([Step(0.01, Deed.KILL_ACTOR), Step(0.02, Deed.KILL_WORKER)], began)
    )
    await asyncio.sleep(0)
    assert pool.deeds == []
    epoch = loop.time()
    began.set_result(epoch)
    await doing
    assert pool.deeds == ["done", "whole", "whole"]
    first, second = hand.told(epoch)
    assert first.began_s >= 0.01
    assert first.whole_s is not None
    assert (first.what, first.failure) == ("it was done", "")
    assert second.failure == "there is none"
    assert [each.what for each in happenings] == ["it was done", "kill-worker could not be done"]


async def test_a_deed_that_the_end_of_the_run_cuts_short_was_not_done(
    table: dict[Deed, Kind],
) -> None:
    begun = asyncio.Event()

    async def hangs(_: Any) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    table[Deed.KILL_ACTOR] = Kind("hangs", hangs)
    began: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    began.set_result(0.0)
    hand = Hand(Pool(), [])  # type: ignore[arg-type]
    doing = asyncio.create_task(hand.do([Step(0.0, Deed.KILL_ACTOR)], began))
    await begun.wait()
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    (only,) = hand.told(0.0)
    assert only.failure == "the run ended meanwhile"
