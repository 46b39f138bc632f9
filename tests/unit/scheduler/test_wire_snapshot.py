"""Control snapshots on the internal wire: what comes back is what was sent, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.core.commands import FileRef, Pause, SetPrompt, SetVideo, Start
from scheduler.core.errors import BadArgumentError, RequestError
from scheduler.core.messages import Phase
from scheduler.wire_snapshot import snapshot_in, snapshot_out
from tests.unit.scheduler.session_driver import SessionDriver, awaiting_after_resume, in_phase, live

pytestmark = pytest.mark.unit

Snapshot = snapshot_pb2.ControlSnapshot
Break = Callable[[Snapshot], object]


def sent(driver: SessionDriver) -> Snapshot:
    return snapshot_out(driver.session.snapshot(), session_id="s1", epoch=3, host="h1")


def busy() -> SessionDriver:
    """Returns a session with something in every field but the probe."""
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.commit(0)
    driver.say(SetPrompt("in snow"))
    driver.make_window()
    return driver


@pytest.mark.parametrize("phase", Phase)
def test_a_session_in_any_phase_comes_back_as_it_was(phase: Phase) -> None:
    driver = in_phase(phase)
    assert snapshot_in(sent(driver)) == driver.session.snapshot()


@pytest.mark.parametrize("make", [SessionDriver, busy, live, awaiting_after_resume])
def test_whatever_it_did_comes_back(make: Callable[[], SessionDriver]) -> None:
    driver = make()
    data = sent(driver).SerializeToString()
    assert snapshot_in(Snapshot.FromString(data)) == driver.session.snapshot()


def test_a_live_run_that_left_out_frames_comes_back() -> None:
    driver = live(windows=5)
    driver.move(kept_windows=5, next_frame=40)
    snapshot = driver.session.snapshot()
    assert snapshot.run is not None
    assert snapshot.run.frame_offset < 0 > snapshot.run.chunk_offset
    assert snapshot_in(sent(driver)) == snapshot


def test_it_says_whose_it_is_and_where_its_model_is_kept() -> None:
    message = sent(busy())
    assert (message.session_id, message.epoch, message.host) == ("s1", 3, "h1")


def test_it_is_small() -> None:
    driver = SessionDriver()
    driver.stage_clip(2_000)
    driver.say(SetPrompt("p" * 200))
    driver.start()
    for _ in range(60):
        driver.make_window()
    driver.say(Pause())
    assert sent(driver).ByteSize() < 32_000


def due_twice(message: Snapshot) -> None:
    message.due.add(command="start", connection_id=1, command_id="a")
    message.due.add(command="start", connection_id=1, command_id="b")


def many_handled(message: Snapshot) -> None:
    for number in range(300):
        message.handled.add(connection_id=1, command_id=f"h{number}", accepted=True)


def second_chunk(index: int, first_frame: int) -> Break:
    return lambda message: message.run.unshown.add(
        index=index, first_frame=first_frame, frames=9, prompt="p"
    )


BROKEN: dict[str, Break] = {
    "no phase": lambda message: message.ClearField("phase"),
    "no mode": lambda message: message.ClearField("mode"),
    "a seed below 0": lambda message: setattr(message, "seed", -1),
    "a seed that no wire carries": lambda message: setattr(message, "run_seed", 2**53),
    "a run's seed": lambda message: setattr(message.run, "seed", -5),
    "an empty prompt": lambda message: setattr(message, "prompt", ""),
    "a prompt too long": lambda message: setattr(message, "prompt", "x" * 10_001),
    "no prompt": lambda message: message.ClearField("prompt"),
    "no run": lambda message: message.ClearField("run"),
    "no clip": lambda message: message.ClearField("clip"),
    "a clip without an upload": lambda message: message.clip.ClearField("video"),
    "a clip without frames": lambda message: setattr(message.clip, "num_frames", 0),
    "a clip of another length": lambda message: setattr(message.clip, "num_frames", 66),
    "a run without an end": lambda message: message.run.ClearField("frames"),
    "the live mode": lambda message: setattr(message, "mode", command_pb2.MODE_LIVE),
    "another run": lambda message: setattr(message, "run_number", 9),
    "an unknown command that waits": lambda message: setattr(message, "waiting", "dance"),
    "a command that waits for nothing": lambda message: setattr(message, "waiting", "start"),
    "a probe without an upload": lambda message: message.probe.SetInParent(),
    "an unknown answer": lambda message: message.due.add(command="dance"),
    "an answer given at once": lambda message: message.due.add(command="set_seed"),
    "an answer due twice": due_twice,
    "a command without an id": lambda message: message.handled.add(accepted=True),
    "commands handled twice": lambda message: message.handled.append(message.handled[0]),
    "too many commands": many_handled,
    "a gap of frames": lambda message: setattr(message.run.unshown[1], "first_frame", 34),
    "a chunk missing": lambda message: message.run.unshown.pop(0),
    "a chunk without frames": lambda message: setattr(message.run.unshown[1], "frames", 0),
    "a chunk after the end": second_chunk(3, 57 + 8),
    "a chunk twice": second_chunk(2, 57),
    "less shown than committed": lambda message: setattr(message.run, "shown", 8),
    "too many prompts": lambda message: message.run.kept.prompts.extend(["p"] * 20),
    "too few prompts": lambda message: message.run.kept.prompts.pop(),
    "a state of the future": lambda message: setattr(message.run.kept, "windows", 7),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_what_no_session_could_have_been_is_refused(damage: Break) -> None:
    message = sent(busy())
    snapshot_in(message)
    damage(message)
    with pytest.raises(BadArgumentError) as refusal:
        snapshot_in(message)
    assert isinstance(refusal.value, RequestError)
    assert "snow" not in str(refusal.value)


def test_a_wait_without_anything_to_wait_for_is_refused() -> None:
    driver = SessionDriver()
    driver.stage_clip()
    driver.say(SetVideo(FileRef("upload-2")))
    driver.say(Start())
    message = sent(driver)
    snapshot_in(message)
    message.ClearField("probe")
    with pytest.raises(BadArgumentError):
        snapshot_in(message)


def test_an_empty_message_is_no_snapshot() -> None:
    with pytest.raises(BadArgumentError):
        snapshot_in(Snapshot())
    with pytest.raises(BadArgumentError):
        snapshot_in(Snapshot(phase=message_pb2.PHASE_IDLE))
