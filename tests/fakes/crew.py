"""Stands in for supervision."""

from __future__ import annotations

import asyncio

from scheduler.core.ids import ActorId


class FakeCrew:
    """Remembers what the driver told it."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    def enrolled(self, actor: ActorId) -> None:
        self.told.put_nowait(("enrolled", actor))

    def replace(self, actor: ActorId) -> None:
        self.told.put_nowait(("replace", actor))

    def emptying(self, actor: ActorId) -> None:
        self.told.put_nowait(("emptying", actor))

    def kept(self, actor: ActorId) -> None:
        self.told.put_nowait(("kept", actor))

    def retire(self, actor: ActorId) -> None:
        self.told.put_nowait(("retire", actor))

    def repurpose(self, actor: ActorId, model: str) -> None:
        self.told.put_nowait(("repurpose", actor, model))
