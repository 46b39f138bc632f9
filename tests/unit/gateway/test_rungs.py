"""Which rung each viewer is given, and what rate each is made at."""

from __future__ import annotations

import pytest

from gateway.rungs import (
    BITRATES,
    GOOD_BITRATE,
    GOOD_FOR_S,
    HOPELESS_FOR_S,
    LEAST_GOOD_BITRATE,
    LONGEST_WAIT_S,
    LOW,
    MAIN,
    NOMINAL_BITRATE,
    POOR_FOR_S,
    TIGHT_FOR_S,
    TRIAL_S,
    Rungs,
)

pytestmark = pytest.mark.unit


def with_viewers(**estimates: int) -> Rungs[str]:
    rungs: Rungs[str] = Rungs()
    for viewer in estimates:
        rungs.join(viewer)
    for viewer, estimate in estimates.items():
        if estimate:
            rungs.estimate(viewer, estimate, 0.0)
    return rungs


def went_down(viewer: str = "poor", estimate: int = 500_000, **others: int) -> Rungs[str]:
    rungs = with_viewers(**{viewer: estimate, **others})
    assert rungs.review(POOR_FOR_S) == {viewer: LOW}
    return rungs


def test_nothing_is_known_before_an_estimate() -> None:
    rungs = with_viewers(one=0)
    assert [rungs.bitrate(MAIN), rungs.bitrate(LOW)] == [0, 0]
    assert rungs.review(100.0) == {}
    assert rungs.review_at == float("inf")


@pytest.mark.parametrize(
    ("estimates", "rate"),
    [
        ({"one": 100_000}, BITRATES[MAIN][0]),
        ({"one": 2_000_000}, 2_000_000),
        ({"one": 2_000_000, "two": 3_000_000}, 2_000_000),
        ({"one": 1_700_000, "two": 3_000_000}, 3_000_000),
        ({"one": 1_700_000, "two": 2_000_000, "unknown": 0}, 1_700_000),
        ({"one": 1_400_000, "two": 2_000_000}, BITRATES[MAIN][0]),
        ({"one": 90_000_000}, BITRATES[MAIN][1]),
        ({"one": 300_000, "unknown": 0}, NOMINAL_BITRATE),
    ],
)
def test_the_main_rate_is_what_all_carry_who_come_near_the_best_viewer(
    estimates: dict[str, int], rate: int
) -> None:
    assert with_viewers(**estimates).bitrate(MAIN) == rate


def test_a_viewer_goes_down_when_it_has_been_poor_for_three_seconds() -> None:
    rungs = with_viewers(poor=1_700_000, rich=3_000_000)
    assert rungs.review_at == POOR_FOR_S
    assert rungs.review(POOR_FOR_S - 0.1) == {}
    assert rungs.review(POOR_FOR_S) == {"poor": LOW}
    assert rungs.review_at == float("inf")
    assert rungs.bitrate(LOW) == BITRATES[LOW][1]
    assert rungs.bitrate(MAIN) == 3_000_000


@pytest.mark.parametrize(
    ("estimate", "rich", "seconds"),
    [
        (1_190_000, 3_000_000, HOPELESS_FOR_S),
        (890_000, 0, HOPELESS_FOR_S),
        (1_340_000, 3_000_000, TIGHT_FOR_S),
        (1_340_000, 0, TIGHT_FOR_S),
    ],
    ids=["far below others", "far below the least", "below the least", "alone below it"],
)
def test_the_less_a_network_carries_the_sooner_its_viewer_goes_down(
    estimate: int, rich: int, seconds: float
) -> None:
    rungs = with_viewers(poor=estimate, **({"rich": rich} if rich else {}))
    assert rungs.review_at == seconds
    assert rungs.review(seconds - 0.01) == {}
    assert rungs.review(seconds) == {"poor": LOW}


def test_a_viewer_whose_network_carries_the_main_rate_stays() -> None:
    assert with_viewers(one=BITRATES[MAIN][0]).review_at == float("inf")
    assert with_viewers(one=1_900_000, rich=3_000_000).review_at == float("inf")


def test_a_viewer_on_low_does_not_bound_the_main_rate() -> None:
    rungs = with_viewers(poor=1_700_000, rich=3_000_000)
    rungs.review(POOR_FOR_S)
    assert rungs.estimate("poor", 2_000_000, POOR_FOR_S) == {}
    assert rungs.bitrate(MAIN) == 3_000_000


def test_each_reason_to_go_down_has_its_own_time() -> None:
    rungs = with_viewers(poor=1_700_000, rich=3_000_000)
    assert rungs.estimate("poor", 500_000, 2.0) == {}
    assert rungs.review_at == 2.0 + HOPELESS_FOR_S
    assert rungs.estimate("poor", 1_700_000, 2.5) == {}
    assert rungs.review_at == POOR_FOR_S


def test_a_moment_of_poverty_changes_nothing() -> None:
    rungs = with_viewers(one=1_700_000, rich=3_000_000)
    assert rungs.estimate("one", 2_000_000, 2.0) == {}
    assert rungs.estimate("one", 1_700_000, 2.5) == {}
    assert rungs.review(POOR_FOR_S) == {}
    assert rungs.review_at == 2.5 + POOR_FOR_S


def test_a_lone_viewer_goes_down_when_it_is_below_the_least_main_rate() -> None:
    assert went_down().bitrate(LOW) == 500_000


@pytest.mark.parametrize(("estimate", "rate"), [(50_000, BITRATES[LOW][0]), (700_000, 700_000)])
def test_the_best_of_the_low_viewers_sets_the_low_rate_within_its_bounds(
    estimate: int, rate: int
) -> None:
    rungs = went_down("poor", estimate, rich=4_000_000)
    assert rungs.bitrate(LOW) == rate
    rungs.estimate("poor", 1_500_000, 4.0)
    assert rungs.bitrate(LOW) == BITRATES[LOW][1]


def test_a_viewer_goes_up_when_it_has_been_good_for_five_seconds() -> None:
    rungs = went_down(rich=2_000_000)
    assert rungs.estimate("poor", LEAST_GOOD_BITRATE - 1, 10.0) == {}
    assert rungs.review_at == float("inf"), "between poor and good it stays"
    assert rungs.estimate("poor", LEAST_GOOD_BITRATE, 11.0) == {}
    assert rungs.review(11.0 + GOOD_FOR_S - 0.1) == {}
    assert rungs.review(11.0 + GOOD_FOR_S) == {"poor": MAIN}


def test_an_estimate_bounded_by_what_is_sent_is_enough_to_try_the_main_rung() -> None:
    rungs = went_down(rich=4_000_000)
    rungs.estimate("poor", GOOD_BITRATE, 10.0)
    assert rungs.review(10.0 + GOOD_FOR_S) == {"poor": MAIN}


def test_every_failed_try_makes_the_next_one_later_up_to_a_bound() -> None:
    rungs = went_down(rich=4_000_000)
    now, waits = POOR_FOR_S, []
    for _ in range(6):
        rungs.estimate("poor", GOOD_BITRATE, now)
        waits.append(rungs.review_at - now)
        now = rungs.review_at
        assert rungs.review(now) == {"poor": MAIN}
        now += POOR_FOR_S
        rungs.estimate("poor", 500_000, now - POOR_FOR_S)
        assert rungs.review(now) == {"poor": LOW}
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, LONGEST_WAIT_S]


def test_a_try_that_lasted_was_no_failure() -> None:
    rungs = went_down(rich=4_000_000)
    rungs.estimate("poor", 4_000_000, 10.0)
    rungs.review(10.0 + GOOD_FOR_S)
    later = 10.0 + GOOD_FOR_S + TRIAL_S
    rungs.estimate("poor", 500_000, later)
    assert rungs.review(later + POOR_FOR_S) == {"poor": LOW}
    rungs.estimate("poor", 4_000_000, later + 10.0)
    assert rungs.review_at == later + 10.0 + GOOD_FOR_S


def test_who_has_left_counts_no_more() -> None:
    rungs = went_down(rich=3_000_000)
    rungs.leave("rich")
    assert rungs.bitrate(MAIN) == BITRATES[MAIN][0]
    rungs.leave("poor")
    assert rungs.bitrate(LOW) == 0
    assert rungs.estimate("poor", 1_000_000, 20.0) == {}
