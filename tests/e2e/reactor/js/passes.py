"""What both JavaScript clients go through, step by step; the steps are in `flows.js`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.reactor.js.conftest import WIRE, Clip, Open, Player
from tests.e2e.reactor.matrix import record

TAKEN = "PUBLISHER_SLOT_TAKEN"
THIRD_PROMPT = "A woodcut in two colours"


MOST_LOOKS = 5
"""Looks at whether pictures have stopped: on a busy machine some that were under way come late."""


def _stands(player: Player, beside: Player) -> bool:
    """Tells whether a page is shown nothing while another is."""
    shown = player.value("shown")
    beside("more", 12)
    return bool(player.value("shown") == shown)


@contextmanager
def step(player: Player, flow: str) -> Iterator[None]:
    """Notes in the matrix that a client takes the steps of a flow."""
    with record(player.client, player.mode, flow):
        yield


def stays_where_it_is(player: Player, clips: tuple[Clip, Clip]) -> None:
    """Refusals, uploads and the documented file example."""
    first, second = clips
    with step(player, "errors"):
        player("refusals")
    with step(player, "uploads"):
        player("uploads", first.data, first.frames, second.data, second.frames)
    with step(player, "file"):
        player("file", second.data, second.frames)


def goes_live(player: Player, *, resizes: bool = False) -> None:
    """The documented live example, and every command in the middle.

    Args:
        player: Who.
        resizes: Whether the size of the camera changes in the middle, too.
    """
    player.allow_camera()
    with step(player, "live"):
        started = player("live")
        if resizes:
            player("resizes", started)
        player("edits", started)


def comes_back(player: Player) -> None:
    """The connection is lost in the middle of a run and made again."""
    with step(player, "reconnect"):
        player("reconnects")
        player("resets")
        player("checkPictures")


def is_joined(player: Player, open_player: Open, session: str) -> None:
    """A second page on the wire of 2.12 sees, hears and controls a session, and leaves it.

    Args:
        player: Who has the session and publishes its camera; it is running.
        open_player: Opens the other page.
        session: The session.
    """
    other = open_player(WIRE, player.mode)
    with step(other, "join"):
        other("joins", session)
        assert other("claims") == TAKEN
        since = player.value("messages.length")
        other("reply", "set_prompt", "prompt_accepted", {"prompt": THIRD_PROMPT})
        player("told", "prompt_accepted", {"prompt": THIRD_PROMPT}, since)
        other("reply", "no_such_command", "command_error")
        other("told", "chunk_complete", {"active_prompt": THIRD_PROMPT})
        player("told", "chunk_complete", {"active_prompt": THIRD_PROMPT}, since)
        assert player.value(f"of('command_error', {since}).length") == 0, (
            "refusals are for who asked"
        )
        chunks = other.value("of('chunk_complete')")
        told = player.value("of('chunk_complete')")
        assert [each for each in chunks if each not in told] == [], "both are told the same"
    with step(other, "pause"):
        other("pausesPictures")
        looks = (_stands(other, player) for _ in range(MOST_LOOKS))
        assert any(looks), "its own pictures stop, and no others"
        other("resumesPictures")
    other("checkPictures")
    other("disconnect")
    assert not any(method == "DELETE" for method, _, _ in other.routes())
    assert not any(path == "/stop_session" for _, path, _ in other.routes())
    player("more", 12)
