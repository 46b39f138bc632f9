"""Open standards from end to end: FFmpeg or a browser publishes, a browser watches, and commands
come over HTTP and gRPC.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from sana_gateway import Client
from tests.e2e.browser.chromium import Page
from tests.e2e.driving import PROMPT, WAIT_S
from tests.e2e.reactor.matrix import CLOUD, record
from tests.e2e.whip.conftest import Door, Publish
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CLIENT = "WHIP/WHEP"
DARK, BRIGHT = 60, 160
MODEL = "/whip/simulated"
Pages = Callable[[], Page]


def shown(level: int) -> float:
    """Returns the luma with which `simulated` shows a grey of the camera."""
    return level / 4 + 36


def view(page: Page, door: Door, stream: str) -> None:
    """Watches a stream."""
    page.run(f"view({json.dumps(f'{door.url}/whep/{stream}')})")


def shows(page: Page, level: int, since: int = 0) -> None:
    """Waits until a player shows an edited picture of a grey."""
    page.run(f"ground({shown(level)}, {since})")


def seen(page: Page) -> int:
    """Returns how many pictures a player has shown."""
    return int(page.run("frames.length"))


def numbers(page: Page) -> list[int]:
    """Returns the numbers of the edited pictures, those that were held counted once."""
    shown_frames = page.run("frames.filter(({ run }) => run >= 0).map(({ frame }) => frame)")
    return [after for before, after in pairwise([None, *shown_frames]) if after != before]


def start(door: Door, stream: str) -> None:
    """Sets a prompt and starts, as a user with curl does."""
    accepted = door.told(stream, "set_prompt", prompt=PROMPT)
    assert accepted["messages"] == [{"type": "prompt_accepted", "data": {"prompt": PROMPT}}]
    assert accepted["state"]["has_prompt"]
    door.told(stream, "start")


async def prompt_over_grpc(address: str, session_id: str, prompt: str) -> None:
    """Sets a prompt over the other door, and waits for a chunk that it was used for."""
    landed = asyncio.Event()

    def hear(message: object) -> None:
        chunk = getattr(message, "chunk_complete", None)
        if chunk is not None and chunk.active_prompt == prompt:
            landed.set()

    async with Client(address) as client, asyncio.timeout(WAIT_S):
        session = await client.attach(session_id)
        session.on("message", hear)
        await session.set_prompt(prompt)
        await landed.wait()
        await session.detach()


def test_ffmpeg_publishes_players_watch_and_commands_come_over_http_and_grpc(
    door: Door, simulated: Stack, open_page: Pages, ffmpeg: Publish
) -> None:
    with record(CLIENT, CLOUD, "live"), record(CLIENT, CLOUD, "join"):
        ffmpeg(f"{door.url}{MODEL}/~ffmpeg", DARK).publishing()
        player = open_page()
        view(player, door, "~ffmpeg")
        start(door, "~ffmpeg")
        shows(player, DARK)
        told = door.until("~ffmpeg", lambda state: state["running"])
        late = open_page()
        view(late, door, told["session_id"])
        shows(late, DARK)
        asyncio.run(prompt_over_grpc(simulated.grpc_address, told["session_id"], "a woodcut"))
        assert door.until("~ffmpeg", lambda _: True)["state"]["current_prompt"] == "a woodcut"
        door.told("~ffmpeg", "pause")
        door.until("~ffmpeg", lambda state: state["paused"] and not state["running"])
        door.told("~ffmpeg", "resume")
        known = seen(late)
        shows(late, DARK, known)
        assert door.told("~ffmpeg", "reset")["messages"][0]["type"] == "generation_reset"
        assert not door.until("~ffmpeg", lambda _: True)["state"]["started"]
        for page in (player, late):
            each = numbers(page)
            assert each == list(range(each[0], each[0] + len(each)))


def test_a_publisher_that_goes_is_waited_for(door: Door, open_page: Pages, ffmpeg: Publish) -> None:
    with record(CLIENT, CLOUD, "reconnect"):
        url = f"{door.url}{MODEL}/~again"
        first = ffmpeg(url, DARK)
        first.publishing()
        player = open_page()
        view(player, door, "~again")
        start(door, "~again")
        shows(player, DARK)
        session_id = door.until("~again", lambda state: state["running"])["session_id"]
        # In order, with a DELETE; then without a word.
        first.words()
        second = ffmpeg(url, BRIGHT)
        second.publishing()
        shows(player, BRIGHT)
        second.kill()
        stalled = door.until("~again", lambda state: not state["running"])
        assert (stalled["session_id"], stalled["state"]["started"]) == (session_id, True)
        known = seen(player)
        door.until_no_publisher()
        ffmpeg(url, DARK).publishing()
        shows(player, DARK, known)
        player.run("player.stop()")
        assert player.run("requests.at(-1)") == {"method": "DELETE", "status": 200}


def test_a_browser_publishes_with_trickled_candidates(door: Door, open_page: Pages) -> None:
    camera, player = open_page(), open_page()
    camera.run(f"publish({json.dumps(f'{door.url}{MODEL}/~browser')}, {BRIGHT})")
    view(player, door, "~browser")
    start(door, "~browser")
    shows(player, BRIGHT)
    camera.run("publisher.stop()")
    asked = camera.run("requests")
    assert asked[0] == {"method": "POST", "status": 201}
    assert asked[-1] == {"method": "DELETE", "status": 200}
    assert {each["status"] for each in asked if each["method"] == "PATCH"} == {204}
    assert {each["status"] for each in player.run("requests")} <= {201, 204}
    stalled = door.until("~browser", lambda state: not state["running"])
    assert stalled["state"]["started"]


def test_what_obs_is_made_of_publishes_and_what_is_refused_harms_nobody(
    door: Door, open_page: Pages, obs: Publish
) -> None:
    with record(CLIENT, CLOUD, "errors"):
        url = f"{door.url}{MODEL}/~refused"
        publisher = obs(url, DARK)
        publisher.publishing()
        player = open_page()
        view(player, door, "~refused")
        status, told = door.command("~refused", "start")
        assert (status, told["reason"]) == (409, "NO_PROMPT")
        assert told["messages"][0]["data"]["command"] == "start"
        assert "refused with 409" in obs(url, BRIGHT).refused()
        sdp = {"Content_Type": "application/sdp"}
        start(door, "~refused")
        assert door.command("~refused", "start")[1]["reason"] == "WRONG_PHASE"
        assert door.ask("POST", MODEL, b"garbage", **sdp)[0] == 400
        assert door.ask("POST", "/whip/other", b"v=0", **sdp)[0] == 400
        assert door.ask("POST", MODEL, b"x" * 10_000_000, **sdp)[0] == 413
        assert door.ask("POST", MODEL, b"{}", Content_Type="application/json")[0] == 415
        shows(player, DARK)
        publisher.words()
        assert publisher.process.returncode == 0
