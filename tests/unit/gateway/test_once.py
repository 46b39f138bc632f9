"""Work that is done once for all who ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.once import Once

pytestmark = pytest.mark.unit


class Work:
    """Ends when it is told to, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.end = asyncio.Event()
        self.fails = False

    def __call__(self) -> Coroutine[Any, Any, int]:
        self.begun += 1
        return self._run(self.begun)

    async def _run(self, number: int) -> int:
        await self.end.wait()
        if self.fails:
            raise ValueError("it cannot be done")
        return number


async def asked(once: Once[str, int], key: str, work: Callable[..., Any]) -> asyncio.Task[int]:
    task = asyncio.create_task(once.do(key, work))
    await asyncio.sleep(0)
    return task


async def test_all_who_ask_meanwhile_get_what_the_first_one_began() -> None:
    once, work = Once[str, int](), Work()
    first, second = await asked(once, "a", work), await asked(once, "a", work)
    assert "a" in once
    first.cancel()
    work.end.set()
    assert await second == 1
    assert work.begun == 1
    assert "a" not in once, "nothing is kept"
    assert await once.do("a", work) == 2


async def test_results_are_kept_up_to_a_number_and_until_they_are_of_no_use() -> None:
    once, work = Once[str, int](2), Work()
    work.end.set()
    for key in ("a", "b", "a"):
        await once.do(key, work)
    assert work.begun == 2
    await once.do("c", work)
    assert "a" not in once
    once.forget("b")
    assert "b" not in once
    assert await once.do("c", work) == 3


async def test_what_failed_is_done_again() -> None:
    once, work = Once[str, int](2), Work()
    work.fails = True
    work.end.set()
    first, second = await asked(once, "a", work), await asked(once, "a", work)
    for each in (first, second):
        with pytest.raises(ValueError, match="cannot"):
            await each
    assert "a" not in once
    work.fails = False
    assert await once.do("a", work) == 2


async def test_what_is_under_way_is_not_forgotten_and_ends_with_all() -> None:
    once, work = Once[str, int](1), Work()
    first, second = await asked(once, "a", work), await asked(once, "b", work)
    once.forget("a")
    assert "a" in once
    await once.stop()
    assert first.done()
    assert second.done()
