"""A session and its actors: one that dies, and two while it moves."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway import moving
from gateway.links import ActorLink, LinkDeadError
from sana_gateway.v1 import command_pb2, media_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from tests.fakes.gateway_parts import Ear, FakeLink, lease
from tests.unit.gateway.test_session import ME, SESSION, VP8, Bench, command, frame

pytestmark = pytest.mark.unit


class Two(Bench):
    """A session at one actor, and a second one that it may go to."""

    def __init__(self) -> None:
        super().__init__()
        self.other = FakeLink("actor-2")
        self.ear = Ear()
        self.place(1)
        self.connection, _ = self.session.connect(self.ear)
        self.connection.subscribe([VP8], self.ear)

    @property
    def seen(self) -> list[tuple[int, int]]:
        """(run, frame) of what viewers were given."""
        return [(each.run, each.frame) for each in self.ear.frames]

    def snapshot(self, revision: int = 1, epoch: int = 1, unshown: int | None = None) -> None:
        taken = snapshot_pb2.ControlSnapshot(session_id=SESSION, epoch=epoch, revision=revision)
        if unshown is not None:
            taken.run.number = 1
            taken.run.unshown.add(first_frame=unshown)
        self.tell(snapshot=stream_pb2.SnapshotTaken(snapshot=taken))

    def told_to_move(self, epoch: int = 2) -> None:
        self.session.move(lease(SESSION, "actor-2", ME, epoch=epoch), cast(ActorLink, self.other))

    def hand_over(self) -> None:
        handed = snapshot_pb2.ControlSnapshot(session_id=SESSION, epoch=1, revision=70)
        self.tell(handed_over=stream_pb2.HandedOver(snapshot=handed))

    async def handing_over(self) -> None:
        """The session moves so far that the old actor was asked."""
        self.told_to_move()
        self.other.open(SESSION)
        await self.link.changes.until(lambda: self.link.of("hand_over"))

    async def overlapping(self) -> None:
        """The session moves so far that the new actor goes on."""
        await self.handing_over()
        self.hand_over()
        self.other.open(SESSION)

    def other_chunk(self, run: int, frames: int, chunk: int, first: int) -> None:
        ready = stream_pb2.ChunkReady(
            run=run, chunk=chunk, first_frame=first, frames=frames, frame_rate=1000.0
        )
        self.other.tell(SESSION, chunk=ready)

    def other_packet(self, run: int, number: int, *, key: bool = False, epoch: int = 2) -> None:
        self.other.packet(
            stream_pb2.VideoPacket(
                session_id=SESSION, epoch=epoch, run=run, frame=number, keyframe=key, data=b"y",
                output=stream_pb2.Output(codec=VP8),
            )
        )  # fmt: skip


async def test_after_a_death_the_next_actor_is_told_where_to_go_on() -> None:
    bench = Two()
    bench.chunk(3, 2)
    bench.packet(3, 0, key=True)
    bench.packet(3, 1)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.chunk(3, 2, chunk=1, first=2)
    bench.snapshot(revision=1)
    bench.state(2, running=True)
    bench.link.lose()
    bench.place(link=bench.other, epoch=2)
    (opened,) = bench.other.opens
    assert opened.token == "token for actor-2"
    assert opened.restore == stream_pb2.Restore(
        snapshot=snapshot_pb2.ControlSnapshot(session_id=SESSION, epoch=1, revision=1),
        run=3, next_frame=2, revision=2, handed_over=False,
    )  # fmt: skip


async def test_the_next_actor_is_given_the_picture_that_holds() -> None:
    bench = Two()
    bench.chunk(1, 1)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.packet(1, 0, key=True, held=True)
    bench.packet(1, 0, held=True)
    bench.snapshot()
    bench.link.lose()
    bench.place(link=bench.other, epoch=2)
    (opened,) = bench.other.opens
    assert opened.restore.held == stream_pb2.HeldPicture(
        codec=VP8, run=1, chunk=0, frame=0, packets=[b"x", b"x"]
    )


@pytest.mark.parametrize("running", [True, False])
async def test_while_it_plays_the_old_actors_pictures_are_not_over(running: bool) -> None:
    bench = Two()
    bench.chunk(1, 1)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.packet(1, 0, key=True, held=True)
    bench.state(1, running=running)
    await bench.overlapping()
    assert bench.other.opens[-1].restore.HasField("held") != running


async def test_no_frame_is_missing_and_none_comes_twice_after_a_death() -> None:
    bench = Two()
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    bench.packet(1, 1)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.chunk(1, 4, chunk=1, first=2)
    bench.packet(1, 2)  # here, but its time never comes
    lost = bench.link
    seat = lost.joined[SESSION]
    lost.lose()
    bench.place(link=bench.other, epoch=2)
    bench.chunk(1, 4, chunk=1, first=2)
    for number in range(6):  # the new actor begins a little too early, too
        bench.packet(1, number, key=number in (0, 2), epoch=2)
    seat.packet(stream_pb2.VideoPacket(
        session_id=SESSION, epoch=1, run=1, frame=3, keyframe=True, data=b"late",
        output=stream_pb2.Output(codec=VP8),
    ))  # fmt: skip
    await bench.other.changes.until(lambda: bench.other.of("commit"))
    assert bench.seen == [(1, number) for number in range(6)]
    assert bench.ear.frames[2].keyframe, "viewers begin anew there"
    assert all(each.data == b"x" for each in bench.ear.frames)


async def test_after_a_death_nothing_goes_out_before_a_keyframe_of_the_next_actor() -> None:
    bench = Two()
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    bench.link.lose()
    bench.place(link=bench.other, epoch=2)
    bench.chunk(1, 2)
    bench.packet(1, 0, epoch=2)
    bench.packet(1, 1, key=True, epoch=2)
    await bench.other.changes.until(lambda: bench.other.of("commit"))
    assert bench.seen == [(1, 1)]


async def test_the_picture_that_holds_is_given_to_who_joins_while_there_is_no_actor() -> None:
    bench = Two()
    bench.chunk(1, 1)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.packet(1, 0, key=True, held=True)
    bench.link.lose()
    late, later = Ear(), Ear()
    bench.connection.subscribe([VP8], late)
    bench.place(link=bench.other, epoch=2)
    bench.connection.subscribe([VP8], later)
    for ear in (late, later):
        assert [(each.frame, each.held) for each in ear.frames] == [(0, True)]


async def test_the_camera_goes_to_the_next_actor_from_a_keyframe_that_is_asked_for() -> None:
    bench = Two()
    bench.connection.camera(frame(1, key=True))
    bench.link.lose()
    bench.connection.camera(frame(2))
    bench.place(link=bench.other, epoch=2)
    assert "camera_keyframe" in bench.ear.kinds
    bench.connection.camera(frame(3))
    bench.connection.camera(frame(4, key=True))
    assert [each.published for each in bench.other.of("camera")] == [True]
    sent = [(each.timestamp_us, each.discontinuity) for each in bench.other.cameras]
    assert sent == [(4, True)]


async def test_an_actor_that_is_gone_when_it_is_joined_leaves_the_session_without_one() -> None:
    bench = Two()
    bench.link.lose()
    bench.other.dead = True
    with pytest.raises(LinkDeadError):
        bench.session.join(lease(SESSION, "actor-2", ME, epoch=2), cast(ActorLink, bench.other))
    assert not bench.session.has_actor
    assert bench.session.epoch == 0


async def test_a_move_shows_every_frame_once_from_whoever_made_it() -> None:
    bench = Two()
    bench.chunk(1, 3)
    for number in range(2):
        bench.packet(1, number, key=number == 0)
    await bench.overlapping()
    assert bench.other.opens[-1].restore.handed_over
    assert bench.other.opens[-1].restore.snapshot.revision == 70
    bench.other_chunk(1, 3, 1, 3)
    for number in range(3, 6):
        bench.other_packet(1, number, key=number == 3)
    bench.packet(1, 2)  # after all that follows it
    await bench.other.changes.until(lambda: len(bench.other.of("commit")) == 2)
    assert bench.seen == [(1, number) for number in range(6)]
    assert [each.chunk for each in bench.other.of("commit")] == [0, 1]
    assert bench.link.of("commit") == []


async def test_a_frame_of_the_old_actor_that_is_late_goes_out_before_what_follows() -> None:
    bench = Two()
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    await bench.overlapping()
    bench.other_packet(1, 2, key=True)
    bench.other_chunk(1, 1, 1, 2)
    bench.session._showing.play(asyncio.get_running_loop().time() + 0.1)
    assert bench.session._showing.position == (1, 3)
    assert bench.seen == [(1, 0)], "what follows is due, and waits"
    bench.packet(1, 1)
    assert bench.seen == [(1, 0), (1, 1), (1, 2)]
    bench.packet(1, 1, key=True)
    assert bench.seen == [(1, 0), (1, 1), (1, 2)], "and never after it"


async def test_a_last_frame_that_does_not_come_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "LATE_S", 0.01)
    bench = Two()
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    await bench.overlapping()
    bench.other_packet(1, 2, key=True)
    bench.other_chunk(1, 1, 1, 2)
    await bench.ear.changes.until(lambda: len(bench.ear.frames) == 2)
    assert bench.seen == [(1, 0), (1, 2)]
    assert bench.link.left == [SESSION]


async def test_the_old_actor_is_left_a_while_after_its_last_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "LATE_S", 0.01)
    bench = Two()
    bench.chunk(1, 2)
    await bench.overlapping()
    assert SESSION in bench.link.joined
    await bench.link.changes.until(lambda: bench.link.left == [SESSION])
    assert SESSION in bench.other.joined


async def test_while_both_show_the_old_one_hears_of_viewers_and_of_the_clock() -> None:
    bench = Two()
    bench.chunk(1, 2000)
    await bench.overlapping()
    (wanted,) = bench.other.of("output")
    assert (wanted.wanted, wanted.keyframe) == (True, True)
    assert bench.other.of("playout"), "it hears when its first frame is due"
    known = [len(link.of("output")) for link in (bench.link, bench.other)]
    late = Ear()
    bench.connection.subscribe([media_pb2.CODEC_H264], late)
    assert [len(link.of("output")) for link in (bench.link, bench.other)] == [
        each + 1 for each in known
    ]


async def test_commands_go_to_who_does_all_and_are_repeated_where_that_changes() -> None:
    bench = Two()
    await bench.handing_over()
    bench.connection.command(command("c1"))
    assert bench.other.of("command") == []
    bench.hand_over()
    bench.connection.command(command("c2"))
    assert bench.other.of("command") == []
    bench.other.open(SESSION)
    bench.connection.command(command("c3"))
    asked = [each.command.command_id for each in bench.other.of("command")]
    assert asked == ["c1", "c2", "c3"]
    assert [each.command.command_id for each in bench.link.of("command")] == ["c1"]


async def test_what_is_shown_before_the_new_actor_takes_part_is_committed_to_it_then() -> None:
    bench = Two()
    bench.chunk(1, 2)
    await bench.handing_over()
    bench.hand_over()
    bench.session._showing.play(asyncio.get_running_loop().time() + 0.1)
    assert bench.link.of("commit") == bench.other.of("commit") == []
    bench.other.open(SESSION)
    assert [each.chunk for each in bench.other.of("commit")] == [0]


async def test_both_actors_get_the_camera_and_each_begins_at_a_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "FEED_S", 0.01)
    bench = Two()
    bench.state(2, running=True, mode=command_pb2.MODE_LIVE)
    bench.connection.camera(frame(1, key=True))
    bench.told_to_move()
    bench.other.open(SESSION)
    assert [each.published for each in bench.other.of("camera")] == [True]
    bench.connection.camera(frame(2))
    bench.other.tell(SESSION, camera_keyframe=stream_pb2.CameraKeyframe())
    assert bench.ear.kinds.count("camera_keyframe") == 2
    assert bench.link.of("hand_over") == []
    bench.connection.camera(frame(3, key=True))
    bench.connection.camera(frame(4))
    monkeypatch.setattr(moving, "CHUNK_S", 0.01)
    assert [each.timestamp_us for each in bench.link.cameras] == [1, 2, 3, 4]
    assert [each.timestamp_us for each in bench.other.cameras] == [3, 4]
    await bench.link.changes.until(lambda: bench.link.of("hand_over"))
    bench.hand_over()
    bench.other.open(SESSION)
    bench.connection.camera(frame(5))
    assert bench.link.cameras[-1].timestamp_us == 4
    assert bench.other.cameras[-1].timestamp_us == 5
    assert not bench.other.cameras[-1].discontinuity


@pytest.mark.parametrize("how", ["lost", "refused", "closed"])
async def test_a_new_actor_that_fails_before_the_hand_over_is_no_loss(how: str) -> None:
    bench = Two()
    bench.told_to_move()
    if how == "lost":
        bench.other.lose()
    elif how == "refused":
        bench.other.tell(SESSION, refused=stream_pb2.Refused(reason="full"))
    else:
        bench.other.tell(SESSION, closed=stream_pb2.Closed(reason="evicted"))
    assert bench.events.lost == 0
    assert bench.session.epoch == 1
    assert SESSION not in bench.other.joined
    bench.connection.command(command("c1"))
    assert len(bench.link.of("command")) == 1


async def test_an_old_actor_that_keeps_the_session_keeps_it() -> None:
    bench = Two()
    await bench.handing_over()
    bench.tell(handed_over=stream_pb2.HandedOver())
    assert SESSION not in bench.other.joined
    assert SESSION in bench.link.joined
    assert bench.events.lost == 0


async def test_an_old_actor_that_dies_before_the_hand_over_is_followed_as_after_a_death() -> None:
    bench = Two()
    bench.snapshot(revision=5)
    bench.chunk(1, 2000)
    await bench.handing_over()
    bench.link.lose()
    standby, restored = bench.other.opens
    assert standby.standby
    assert standby.restore.snapshot.revision == 5, "it can see to what it will need"
    assert not restored.standby
    assert not restored.restore.handed_over
    assert restored.restore.snapshot.revision == 5
    assert bench.events.lost == 0, "a place is there already"
    bench.other.open(SESSION)
    bench.other_chunk(1, 1, 0, 0)
    bench.other_packet(1, 0, key=True)
    await bench.other.changes.until(lambda: bench.other.of("commit"))
    assert bench.seen == [(1, 0)]


async def test_what_a_dying_old_actor_had_still_to_show_is_time_that_passes() -> None:
    bench = Two()
    bench.chunk(1, 3)
    bench.packet(1, 0, key=True)
    await bench.overlapping()
    bench.link.lose()
    bench.other_chunk(1, 1, 1, 3)
    bench.other_packet(1, 3, key=True)
    await bench.other.changes.until(lambda: len(bench.other.of("commit")) == 2)
    assert bench.seen == [(1, 0), (1, 3)]
    assert bench.events.lost == 0


@pytest.mark.parametrize("how", ["lost", "refused"])
async def test_a_new_actor_that_dies_after_the_hand_over_is_a_death_like_any_other(
    how: str,
) -> None:
    bench = Two()
    bench.chunk(1, 2000)
    await bench.handing_over()
    bench.hand_over()
    if how == "lost":
        bench.other.lose()
    else:
        bench.other.tell(SESSION, refused=stream_pb2.Refused(reason="cannot"))
    assert bench.events.lost == 1
    assert SESSION not in bench.link.joined, "it has nothing any more that is needed"
    third = FakeLink("actor-3")
    bench.place(link=third, epoch=3)
    assert third.opens[0].restore.snapshot.revision == 70


async def test_a_new_actor_that_is_dead_when_it_is_to_go_on_is_a_death_too() -> None:
    bench = Two()
    await bench.handing_over()
    bench.other.dead = True
    bench.hand_over()
    assert bench.events.lost == 1
    assert not bench.session.has_actor


async def test_a_hand_over_that_another_gateway_asked_for_is_followed() -> None:
    bench = Two()
    bench.told_to_move()
    bench.hand_over()
    assert [each.standby for each in bench.other.opens] == [True, False]
    assert bench.other.opens[-1].restore.handed_over


async def test_copies_that_the_old_actor_makes_after_it_handed_over_are_heard_of() -> None:
    bench = Two()
    copying = asyncio.create_task(bench.session.copy(["c1"]))
    await bench.link.changes.until(lambda: bench.link.of("copy"))
    await bench.overlapping()
    copied = stream_pb2.Copied(snapshot=snapshot_pb2.ControlSnapshot(), copies=["c1"])
    bench.tell(copied=copied)
    assert list((await copying).copies) == ["c1"]


async def test_an_answer_to_standing_by_is_not_taken_for_one_to_going_on() -> None:
    bench = Two()
    bench.chunk(1, 2)
    bench.told_to_move()
    bench.hand_over()
    bench.session._showing.play(asyncio.get_running_loop().time() + 0.1)
    bench.connection.command(command("c1"))
    bench.other.tell(SESSION, opened=stream_pb2.Opened(standby=True))
    assert bench.other.of("commit") == bench.other.of("command") == []
    bench.other.open(SESSION)
    assert [each.chunk for each in bench.other.of("commit")] == [0]
    assert [each.command.command_id for each in bench.other.of("command")] == ["c1"]


async def test_a_hand_over_to_an_actor_that_is_not_known_yet_waits_for_its_name() -> None:
    bench = Two()
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    bench.hand_over()
    assert bench.events.sought == 1
    assert bench.events.lost == 0
    bench.packet(1, 1)
    await bench.ear.changes.until(lambda: len(bench.ear.frames) == 2)
    bench.told_to_move()
    (opened,) = bench.other.opens
    assert opened.restore.handed_over
    assert opened.restore.next_frame == 2
    bench.other.open(SESSION)
    assert [each.chunk for each in bench.other.of("commit")] == [0]


async def test_an_actor_that_dies_before_it_is_known_who_follows_is_a_death() -> None:
    bench = Two()
    bench.chunk(1, 2000)
    bench.hand_over()
    bench.link.lose()
    assert bench.session.epoch == 0
    bench.place(link=bench.other, epoch=2)
    assert not bench.other.opens[0].restore.handed_over


async def test_another_target_replaces_the_one_before() -> None:
    bench = Two()
    bench.told_to_move(epoch=2)
    first, bench.other = bench.other, FakeLink("actor-3")
    bench.told_to_move(epoch=3)
    assert SESSION not in first.joined
    assert bench.other.opens[0].standby
    bench.told_to_move(epoch=2)
    assert len(bench.other.opens) == 1, "old news"


async def test_a_run_that_is_abandoned_ends_what_the_old_actor_shows() -> None:
    bench = Two()
    bench.chunk(1, 2000)
    bench.packet(1, 0, key=True)
    await bench.overlapping()
    bench.other_packet(2, 0, key=True)
    bench.other.tell(SESSION, abandoned=stream_pb2.RunAbandoned(next_run=2))
    bench.other_chunk(2, 1, 0, 0)
    await bench.other.changes.until(lambda: bench.other.of("commit"))
    assert bench.seen[-1] == (2, 0)


async def test_the_end_leaves_every_actor() -> None:
    bench = Two()
    bench.chunk(1, 2000)
    await bench.overlapping()
    bench.session.close("enough")
    assert bench.link.joined == bench.other.joined == {}


async def test_the_newest_snapshot_of_the_highest_epoch_counts() -> None:
    bench = Two()
    bench.snapshot(revision=5, epoch=2)
    bench.snapshot(revision=4, epoch=1)
    bench.snapshot(revision=6, epoch=2)
    bench.link.lose()
    bench.place(link=bench.other, epoch=3)
    assert bench.other.opens[0].restore.snapshot.revision == 6


@pytest.mark.parametrize(
    ("old", "new", "store"),
    [
        ("unix:/a", "unix:/b", False),
        ("10.0.0.1:7000", "10.0.0.1:7001", False),
        ("10.0.0.1:7000", "10.0.0.2:7000", True),
        ("unix:/a", "10.0.0.2:7000", True),
    ],
)
async def test_the_state_is_stored_where_the_new_actor_may_not_share_the_old_ones_memory(
    old: str, new: str, store: bool
) -> None:
    bench = Two()
    bench.link.lose()
    bench.link.address = old
    bench.place(epoch=2)
    place = lease(SESSION, new, ME, epoch=3)
    bench.session.move(place, cast(ActorLink, bench.other))
    bench.other.open(SESSION)
    (asked,) = await bench.link.changes.until(lambda: bench.link.of("hand_over"))
    assert (asked.epoch, asked.store) == (3, store)


@pytest.mark.parametrize(
    ("came", "unshown", "next_frame"),
    [
        (3, 0, 3),  # the fourth was due, and was still on its way
        (4, 0, 4),
        (1, 2, 2),  # what was committed cannot be made again
        (0, 0, 4),  # nobody has seen anything: nobody misses it
        (3, None, 4),
    ],
)
async def test_a_frame_that_was_due_and_died_with_its_actor_is_made_again(
    came: int, unshown: int | None, next_frame: int
) -> None:
    bench = Two()
    bench.chunk(1, 2000)
    for number in range(came):
        bench.packet(1, number, key=number == 0)
    showing = bench.session._showing
    due = showing._playout.next_due()
    assert due is not None
    showing.play(due + 3.5 / 1000)
    assert showing.position == (1, 4)
    bench.snapshot(unshown=unshown)
    bench.link.lose()
    bench.place(link=bench.other, epoch=2)
    assert bench.other.opens[0].restore.next_frame == next_frame
    bench.other_chunk(1, 2, 0, next_frame)
    bench.other_packet(1, next_frame, key=True)
    bench.other_packet(1, next_frame + 1)
    await bench.other.changes.until(lambda: bench.other.of("commit"))
    assert bench.seen == [(1, number) for number in (*range(came), next_frame, next_frame + 1)]
