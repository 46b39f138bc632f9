"""Everything that reads bytes of strangers, for a moment; `python -m tests.fuzz` takes its time."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, SlowError, kept, load, within
from tests.required import ROOT

pytestmark = pytest.mark.properties

MOST_BYTES = 300_000
EXAMPLES = {name: 25 if name == "media_probe" else 150 for name in TARGETS}
"""What takes about a second."""


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_before_stands(name: str) -> None:
    fuzz_one, seeds = load(name)
    for data in [*seeds(), *kept(name)]:
        fuzz_one(data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_right_stands(name: str) -> None:
    fuzz_one, seeds = load(name)
    samples = [*seeds(), *kept(name)]

    @settings(
        max_examples=EXAMPLES[name],
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(
        st.sampled_from(samples),
        st.sampled_from(samples),
        st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=8),
        st.integers(0, 4096),
        st.binary(max_size=16),
    )
    def nearly(
        one: bytes, other: bytes, changes: list[tuple[int, int]], cut: int, between: bytes
    ) -> None:
        made = bytearray(one[:cut] + between + other[cut:] if cut % 2 else one)
        for at, value in changes:
            if made:
                made[at % len(made)] ^= value
        fuzz_one(bytes(made))

    nearly()


def test_what_takes_too_long_is_found() -> None:
    with pytest.raises(SlowError), within(0.01):
        sum(1 for _ in range(10**12))
    with within(30.0):
        pass


def test_the_corpus_is_small_and_of_targets_that_there_are() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_every_target_can_be_named_on_the_command_line() -> None:
    modules = {path.stem for path in (ROOT / "tests/fuzz").glob("*.py")}
    has = {
        name
        for name in modules
        if re.search(r"^def fuzz_one\(", (ROOT / f"tests/fuzz/{name}.py").read_text(), re.MULTILINE)
    }
    assert has == set(TARGETS)
