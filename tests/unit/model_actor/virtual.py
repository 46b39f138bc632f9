"""Virtual time for tests: exact, and a second takes none."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any


def now() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()


class Jumping(selectors.SelectSelector):
    """Never sleeps: where a loop would, its time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for somebody else"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which a second takes no time."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in virtual time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def body() -> None:
            await test(*arguments, **named)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(body())

    return run
