"""From one prompt to the next: shares, and transitions that begin in the middle of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.commands import MAX_TRANSITION_CHUNKS
from scheduler.core.prompts import MOST_EARLIER, Blend, Course, Share

pytestmark = pytest.mark.unit


def windows(course: Course, prompt: str, count: int) -> tuple[Course, list[Blend]]:
    made = []
    for _ in range(count):
        made.append(course.next(prompt))
        course = course.after(made[-1])
    return course, made


def share(blend: Blend, prompt: str) -> float:
    return sum(each.share for each in blend.shares if each.prompt == prompt)


def test_without_a_transition_a_prompt_is_there_at_once() -> None:
    course, _ = windows(Course(), "a", 2)
    _, made = windows(course.aim(0), "b", 2)
    assert made == [Blend("b"), Blend("b")]


def test_a_transition_goes_in_even_steps_and_ends() -> None:
    course, _ = windows(Course(), "a", 1)
    _, made = windows(course.aim(3), "b", 5)
    assert [share(each, "b") for each in made] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert [share(each, "a") for each in made] == pytest.approx([0.75, 0.5, 0.25, 0.0, 0.0])
    assert made[3] == Blend("b")


def test_the_first_window_of_a_run_comes_from_nowhere() -> None:
    _, made = windows(Course().aim(8), "a", 2)
    assert made == [Blend("a"), Blend("a")]


def test_a_transition_within_a_transition_begins_at_the_mixture_of_that_moment() -> None:
    course, _ = windows(Course(), "a", 1)
    course, made = windows(course.aim(1), "b", 1)
    assert share(made[0], "b") == pytest.approx(0.5)
    _, made = windows(course.aim(1), "c", 2)
    assert made[0].prompt == "c"
    assert [share(made[0], each) for each in "abc"] == pytest.approx([0.25, 0.25, 0.5])
    assert made[1] == Blend("c")


def test_going_back_in_the_middle_goes_back_from_there() -> None:
    course, _ = windows(Course(), "a", 1)
    course, _ = windows(course.aim(3), "b", 2)
    _, made = windows(course.aim(1), "a", 2)
    assert made[0] == Blend("a", (Share("b", 0.25),))
    assert made[1] == Blend("a")


def test_a_prompt_without_a_transition_ends_one() -> None:
    course, _ = windows(Course(), "a", 1)
    course, _ = windows(course.aim(5), "b", 1)
    _, made = windows(course.aim(0), "c", 1)
    assert made == [Blend("c")]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefgh"),
            st.integers(0, MAX_TRANSITION_CHUNKS),
            st.integers(0, MAX_TRANSITION_CHUNKS + 1),
        ),
        max_size=20,
    )
)
def test_shares_make_a_whole_of_a_few_prompts_whatever_is_asked(
    asked: list[tuple[str, int, int]],
) -> None:
    course = Course()
    for prompt, transition, count in asked:
        course = course.aim(transition)
        course, made = windows(course, prompt, count)
        for blend in made:
            assert blend.prompt == prompt
            assert len(blend.earlier) <= MOST_EARLIER
            assert sum(each.share for each in blend.shares) == pytest.approx(1.0)
            assert all(0 < each.share <= 1 for each in blend.shares)
            assert len({each.prompt for each in blend.shares}) == len(blend.shares)
        if count > transition:
            assert made[-1] == Blend(prompt)
