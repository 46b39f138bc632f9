"""What every Reactor client is put through, whatever its SDK: see `matrix.FLOWS`.

Runs inside foreign environments, as `scenario.py` does. Everything that must hold for both
SDKs is checked here; what a test has to look at itself is noted in `Seen.notes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from scenario import Client, Flow, Seen

FIRST_PROMPT = "Van Gogh oil painting, swirling brushstrokes, vivid colors"
SECOND_PROMPT = "Charcoal drawing on rough paper"
WATCHDOG_S = 20.0
"""How long a client may be silent."""
CAMERA_SIZES = [(640, 360), (320, 180), (480, 640), (1280, 720)]
"""As a browser's camera does that is short of bandwidth, or a phone's that is turned."""


async def _reply(client: Client, seen: Seen, name: str, reply: str | None, **arguments: Any) -> Any:
    """Sends a command and checks its reply: on SDKs with replies, and that it came only once."""
    since = len(seen.messages)
    got = await client.command(name, arguments)
    if client.correlated:
        kind = got["type"] if got else None
        assert kind == reply, f"{name} was answered by {kind}, not {reply}"
    after = since
    if reply is not None:
        await seen.until_message(reply, since)
        # A refusal that comes late, of a clip, follows the state: it changes none.
        if reply != "command_error":
            after += seen.types()[since:].index(reply)
    await seen.until_message("state", after)
    if reply is not None:
        times = len(seen.of(reply, since))
        assert times == 1, f"{reply} came {times} times"
    return got


async def _refused(client: Client, seen: Seen, name: str, **arguments: Any) -> None:
    """Sends a command that is refused, and checks that nothing else became of it."""
    before = seen.last("state")
    since = len(seen.messages)
    await _reply(client, seen, name, "command_error", **arguments)
    (error,) = seen.of("command_error", since)
    assert set(error) == {"command", "reason"}, error
    assert error["command"] == name, error
    assert error["reason"], error
    steady = ("started", "has_prompt", "has_video", "num_source_frames", "seed")
    after = seen.last("state")
    assert [before[key] for key in steady] == [after[key] for key in steady], (before, after)


async def live(client: Client, seen: Seen, _: Path) -> None:
    """The documented live example, and every other command on the way."""
    await seen.until_message("state", started=False, current_prompt=None)
    assert len(seen.last("state")) == 9, seen.last("state")
    await client.publish()
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    await _reply(client, seen, "set_mode", None, mode="live")
    await _reply(client, seen, "set_seed", None, seed=42)
    await seen.until_message("state", seed=42, current_prompt=FIRST_PROMPT)
    since = len(seen.messages)
    await client.command("start", {})
    started = await seen.until_message("generation_started", since)
    assert started == {"prompt": FIRST_PROMPT, "chunk_num": 0, "frame_num": 0}, started
    await seen.until("24 frames", lambda: seen.frames >= 24)
    await seen.until_message("chunk_complete", since, chunk_index=0)
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=SECOND_PROMPT)
    await seen.until_message("chunk_complete", since, active_prompt=SECOND_PROMPT)
    await _refused(client, seen, "no_such_command")
    await _refused(client, seen, "set_seed", seed="many")
    await _reply(client, seen, "pause", None)
    await seen.until_message("state", since, paused=True)
    since = len(seen.messages)
    await _reply(client, seen, "resume", None)
    await seen.until_message("state", since, paused=False, running=True)
    await seen.until_message("chunk_complete", since)
    await _output_pauses(client, seen)
    await client.extras(seen)
    await _reply(client, seen, "reset", "generation_reset")
    await seen.until_message("state", len(seen.messages) - 1, started=False, has_prompt=False)
    await client.unpublish()


async def _output_pauses(client: Client, seen: Seen) -> None:
    await client.pause_output()
    await seen.still()
    await client.resume_output()
    await seen.until_frames(24)


async def _stage(client: Client, seen: Seen, clip: Path) -> dict[str, Any]:
    """Uploads a clip and sets it; returns what it was accepted as."""
    since = len(seen.messages)
    reference = await client.upload(str(clip))
    await _reply(client, seen, "set_video", "video_accepted", video=reference)
    accepted = seen.last("video_accepted")
    assert accepted["num_latent_frames"] == (accepted["num_frames"] - 1) // 8 + 1, accepted
    count = accepted["num_frames"]
    await seen.until_message("state", since, has_video=True, num_source_frames=count)
    return accepted


async def _play(client: Client, seen: Seen) -> dict[str, Any]:
    """Plays the staged clip to its end; returns `generation_complete`."""
    since, frames = len(seen.messages), seen.frames
    await client.command("start", {})
    await seen.until_message("generation_started", since)
    complete = await seen.until_message("generation_complete", since)
    indices = [data["chunk_index"] for data in seen.of("chunk_complete", since)]
    assert indices == list(range(int(complete["total_chunks"]))), indices
    await seen.until_message("state", since, started=False, has_video=True, has_prompt=True)
    assert seen.frames > frames, "no frame was received"
    _progress_is_true(seen.messages[since:])
    return complete


def _progress_is_true(messages: list[tuple[str, dict[str, Any]]]) -> None:
    """Checks that `current_chunk` never tells of another run, from the start on.

    Messages before `generation_started` may be answers to earlier commands.
    """
    completed = 0
    names = [name for name, _ in messages]
    for name, data in messages[names.index("generation_started") :]:
        if name == "chunk_complete":
            completed += 1
        elif name == "state" and data["started"]:
            assert data["current_chunk"] == completed, (data["current_chunk"], completed)


async def file(client: Client, seen: Seen, clips: Path) -> None:
    """The documented file example, and a replay."""
    await seen.until_message("state", has_video=False)
    await _reply(client, seen, "set_mode", None, mode="file")
    accepted = await _stage(client, seen, clips / "moving.mp4")
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    await _play(client, seen)
    await _play(client, seen)
    seen.notes["video_accepted"] = accepted


async def uploads(client: Client, seen: Seen, clips: Path) -> None:
    """Another clip replaces the first; what is no clip is refused, and it goes on."""
    await _reply(client, seen, "set_mode", None, mode="file")
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    first = await _stage(client, seen, clips / "moving.mp4")
    second = await _stage(client, seen, clips / "short.mp4")
    assert first["num_frames"] != second["num_frames"]
    for wrong in ("text.mp4", "few.mp4"):
        reference = await client.upload(str(clips / wrong))
        await _refused(client, seen, "set_video", video=reference)
    assert seen.last("state")["num_source_frames"] == second["num_frames"]
    # The same file once more, and the same reference once more.
    reference = await client.upload(str(clips / "short.mp4"))
    for _ in range(2):
        await _reply(client, seen, "set_video", "video_accepted", video=reference)
    assert seen.last("video_accepted") == second
    await _play(client, seen)


async def reconnect(client: Client, seen: Seen, _: Path) -> None:
    """The session and its state survive the transport."""
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    session_id, since = client.session_id, len(seen.messages)
    await client.reconnect()
    assert client.session_id == session_id
    await seen.until_message("state", since, current_prompt=FIRST_PROMPT)
    await client.publish()
    await client.command("start", {})
    await seen.until_frames(24)


async def join(client: Client, seen: Seen, _: Path) -> None:
    """A second connection sees, hears and controls the session; each pauses for itself."""
    await client.publish()
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    await client.command("start", {})
    await seen.until_frames(12)
    theirs = Seen()
    second = client.another(theirs)
    await second.connect(client.session_id)
    try:
        await theirs.until_message("state", started=True, current_prompt=FIRST_PROMPT)
        await theirs.until_frames(24)
        since = len(seen.messages)
        await _reply(second, theirs, "set_prompt", "prompt_accepted", prompt=SECOND_PROMPT)
        await seen.until_message("prompt_accepted", since, prompt=SECOND_PROMPT)
        await seen.until_message("chunk_complete", since, active_prompt=SECOND_PROMPT)
        await theirs.until_message("chunk_complete", active_prompt=SECOND_PROMPT)
        await second.pause_output()
        await theirs.still()
        await seen.until_frames(12)
        await second.resume_output()
        await theirs.until_frames(12)
        # A refusal concerns the asker alone; so does the camera, which is taken.
        errors = len(seen.of("command_error"))
        await _refused(second, theirs, "no_such_command")
        taken = await second.refusal(second.publish())
        assert taken == second.words["taken"], taken
        assert len(seen.of("command_error")) == errors
    finally:
        await second.disconnect()
    # Whoever joined leaves the session running.
    await seen.until_frames(24)
    seen.notes["joined"] = [theirs.sizes, theirs.statuses]


async def errors(client: Client, seen: Seen, clips: Path) -> None:
    """What is refused is told in the SDK's own words, and it goes on."""
    await _http_errors(client)
    await _refused(client, seen, "no_such_command")
    await _refused(client, seen, "set_mode", mode="sideways")
    await _refused(client, seen, "set_mode")
    await _refused(client, seen, "set_seed", seed="many")
    await _refused(client, seen, "set_seed", seed=-1)
    await _refused(client, seen, "set_seed", seed=1.5)
    await _refused(client, seen, "set_prompt", prompt=["no", "words"])
    await _refused(client, seen, "set_prompt", prompt="  ")
    await _refused(client, seen, "set_video", video="a name")
    await _refused(client, seen, "start")
    await _refused(client, seen, "pause")
    await _refused(client, seen, "resume")
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    await _reply(client, seen, "set_mode", None, mode="file")
    await _refused(client, seen, "start")
    await _stage(client, seen, clips / "moving.mp4")
    reference = await client.upload(str(clips / "short.mp4"))
    since = len(seen.messages)
    await client.command("start", {})
    await seen.until_message("generation_started", since)
    await _reply(client, seen, "pause", None)
    await seen.until_message("state", since, paused=True)
    await _refused(client, seen, "start")
    await _refused(client, seen, "set_video", video=reference)
    await _refused(client, seen, "set_mode", mode="live")
    await _refused(client, seen, "pause")
    await _reply(client, seen, "resume", None)
    await seen.until_message("generation_complete", since)
    await _play(client, seen)


async def _http_errors(client: Client) -> None:
    """Asks for what is not there, with clients of their own."""
    if client.local:
        other = client.another(Seen())
        words = await _turned_away(other, other.connect())
        assert words == client.words["409"], words
        return
    other = client.another(Seen(), model="no-such-model")
    words = await _turned_away(other, other.connect())
    assert words == client.words["404"], words
    other = client.another(Seen())
    words = await _turned_away(other, other.connect("no-such-session"))
    assert words == client.words["404"], words


async def _turned_away(client: Client, asking: Awaitable[Any]) -> str:
    try:
        return await client.refusal(asking)
    finally:
        await client.disconnect()


async def pings(client: Client, seen: Seen, _: Path) -> None:
    """Nobody says anything for longer than the watchdog allows, and the client stays."""
    await seen.until_message("state")
    statuses = list(seen.statuses)
    await asyncio.sleep(WATCHDOG_S + 3)
    assert client.is_ready()
    assert seen.statuses == statuses, seen.statuses
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)


async def resizing(client: Client, seen: Seen, _: Path) -> None:
    """The camera changes its resolution in the middle of chunks, and the run goes on."""
    await client.publish(CAMERA_SIZES)
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    since = len(seen.messages)
    await client.command("start", {})
    await seen.until_message("chunk_complete", since, chunk_index=3)
    assert client.is_ready()
    assert seen.of("command_error") == []
    chunks = seen.of("chunk_complete", since)
    assert [each["chunk_index"] for each in chunks] == list(range(len(chunks)))
    assert seen.last("state")["running"]
    seen.notes["chunks"] = [each["frames_emitted"] for each in chunks]


async def stay(*_: object) -> None:
    """Says so once it is connected, and stays until it is killed."""
    print("connected", flush=True)
    await asyncio.Event().wait()


FLOWS: dict[str, Flow] = {
    "live": live,
    "file": file,
    "uploads": uploads,
    "reconnect": reconnect,
    "join": join,
    "errors": errors,
    "pings": pings,
    "resizing": resizing,
    "stay": stay,
}
