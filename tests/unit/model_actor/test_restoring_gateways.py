"""Several gateways of a session whose actor died, and what is kept: the newest counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from tests.unit.model_actor.moving_bench import Actor, Viewer
from tests.unit.model_actor.test_restoring import Launch, live, settled, upload

pytestmark = pytest.mark.unit


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    actors: list[Actor] = []

    def launch(**options: object) -> Actor:
        actors.append(Actor(tmp_path, **options))  # type: ignore[arg-type]
        return actors[-1]

    yield launch
    for actor in actors:
        await actor.close()


async def two_gateways(launch: Launch, *, kept: bool = False) -> tuple[Viewer, Viewer]:
    """Returns two gateways of a live session whose actor died: the first has missed its last
    words. They are also kept, or are not.
    """
    first, behind = await live(launch, 40)
    ahead = Viewer("g2")
    ahead.open_quietly(first)
    ahead.run, ahead.next_frame, ahead._ids = behind.run, behind.next_frame, behind._ids
    await settled(first)
    first.session.leave("g1")
    ahead.prompt("later")
    await ahead.until(lambda: _prompt(ahead) == "later")
    if kept:
        first.session.leave("g2")
        await settled(first)
    await first.die()
    behind.lose()
    ahead.lose()
    assert _prompt(behind) == "one"
    assert ahead.revision > behind.revision
    return behind, ahead


def _prompt(viewer: Viewer) -> str:
    return "" if viewer.snapshot is None else viewer.snapshot.prompt


def rising(viewer: Viewer, above: int) -> bool:
    """Tells whether all that a gateway was told was above what it knew, and in order."""
    told = [
        each.message.message.revision
        for each in viewer.told
        if each.HasField("message") and each.message.message.revision
    ]
    return told == sorted(set(told)) and all(revision > above for revision in told)


@pytest.mark.parametrize("newer_first", [False, True])
async def test_of_two_gateways_the_one_that_knows_more_decides(
    launch: Launch, newer_first: bool
) -> None:
    behind, ahead = await two_gateways(launch)
    known = ahead.revision
    for each in (behind, ahead):
        each.told.clear()
    second = launch(host="another")
    await second.admit(2, restore=True)
    opening = (ahead, behind) if newer_first else (behind, ahead)
    for each in opening:
        each.open(second, each.restore())
    for each in opening:
        await each.until(each.has("session_moved"))
    assert second.session._machine.prompt == "later"
    assert rising(ahead, known)
    assert rising(behind, known)


async def test_what_is_kept_counts_where_it_is_newer_than_what_the_gateway_has(
    launch: Launch,
) -> None:
    behind, ahead = await two_gateways(launch, kept=True)
    behind.told.clear()
    second = launch()
    await second.admit(2, restore=True)
    behind.open(second, behind.restore())
    await behind.until(behind.has("session_moved"))
    assert second.session._machine.prompt == "later"
    assert rising(behind, behind.restore().snapshot.revision)
    ahead.told.clear()
    known = ahead.revision
    ahead.open(second)
    await ahead.until(lambda: any(told.HasField("opened") for told in ahead.told))
    assert rising(ahead, known)


async def test_numbers_go_on_above_those_of_a_gateway_that_comes_too_late_to_decide(
    launch: Launch,
) -> None:
    behind, ahead = await two_gateways(launch)
    known = ahead.revision + 20
    behind.told.clear()
    ahead.told.clear()
    second = launch(host="another")
    await second.admit(2, restore=True)
    behind.open(second, behind.restore())
    await behind.until(behind.has("session_moved"))
    assert second.session._machine.prompt == "one", "nobody knew better"
    second.session.open(ahead, revision=known)
    behind.command(set_seed=command_pb2.SetSeed(seed=9))
    await ahead.until(lambda: any(told.HasField("message") for told in ahead.told))
    assert rising(ahead, known)
    assert rising(behind, 0)


async def test_one_that_only_says_that_nothing_is_known_decides_nothing(launch: Launch) -> None:
    behind, ahead = await two_gateways(launch)
    blank = stream_pb2.Restore(
        snapshot=snapshot_pb2.ControlSnapshot(
            session_id="s1",
            epoch=8,
            revision=ahead.revision,
            phase=message_pb2.PHASE_IDLE,
            mode=command_pb2.MODE_LIVE,
        ),
        revision=ahead.revision,
        blank=True,
    )
    second = launch(host="another")
    await second.admit(9, restore=True)
    ahead.open(second, blank)
    behind.open(second, behind.restore())
    await behind.until(behind.has("session_moved"))
    assert second.session._machine.prompt == "one"


async def test_a_newer_snapshot_that_comes_while_the_session_is_made_is_used_yet(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind, ahead = await two_gateways(launch)
    second = launch()
    await second.admit(2, restore=True)
    opened: list[object] = []
    closed: list[object] = []
    states = second.services.states
    make, drop, shell = states.restore, states.close, second.shell

    async def restore(session_id: str, snapshot: bytes) -> object:
        if not opened:
            ahead.open(second, ahead.restore())
        opened.append(await make(session_id, snapshot))
        return opened[-1]

    async def close(state: object) -> None:
        closed.append(state)
        await drop(state)

    async def nothing(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(states, "restore", restore)
    monkeypatch.setattr(states, "close", close)
    monkeypatch.setattr(second.kept, "newest", nothing)
    shell.open(behind, stream_pb2.Open(session_id="s1", restore=behind.restore()))
    behind._actor = second
    await ahead.until(ahead.has("session_moved"))
    assert second.session._machine.prompt == "later"
    assert len(opened) == 2
    assert closed == opened[:1], "what was made first is released"


@pytest.mark.parametrize("further", [2, 60])
@pytest.mark.parametrize("behind_first", [False, True])
async def test_what_one_of_two_gateways_has_not_shown_yet_is_made_again(
    launch: Launch, further: int, behind_first: bool
) -> None:
    """One that is further behind than clocks ever are has shown nothing of this run."""
    first, viewer = launch(), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    viewer.until_frame = 100
    await viewer.start_clip()
    await viewer.until(viewer.shows(100))
    await settled(first)
    await first.die()
    viewer.lose()
    late = viewer.restore()
    late.next_frame -= further
    second, other = launch(), Viewer("g2")
    other._quiet = viewer._quiet = True
    await second.admit(2, restore=True, computing=True)
    opening = [(viewer, viewer.restore()), (other, late)]
    for gateway, restore in reversed(opening) if behind_first else opening:
        gateway.open(second, restore)
    await other.until(lambda: any(each.HasField("chunk") for each in other.told))
    chunks = [each.chunk for each in other.told if each.HasField("chunk")]
    assert chunks[0].first_frame == (98 if further == 2 else 100)
