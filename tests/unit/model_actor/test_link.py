"""One gateway's streams at the actor: what leaves when, and what is dropped."""

from __future__ import annotations

import asyncio

import pytest

from model_actor.stream_server import BATCH_BYTES, MEDIA_QUEUE, TICK_S, URGENT_S, Link
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.unit.model_actor.virtual import now, virtual

pytestmark = pytest.mark.unit

LATER_S = URGENT_S + 0.03


def packet(
    frame: int, session_id: str = "s1", *, keyframe: bool = False, size: int = 10
) -> stream_pb2.VideoPacket:
    return stream_pb2.VideoPacket(
        session_id=session_id,
        output=stream_pb2.Output(codec=media_pb2.CODEC_H264),
        frame=frame,
        keyframe=keyframe,
        data=bytes(size),
    )


class Reader:
    """Reads a link, and notes what came when."""

    def __init__(self, link: Link) -> None:
        self.batches: list[tuple[float, list[int]]] = []
        self.sizes: list[int] = []
        self._link = link
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for batch in self._link.packets():
            self.batches.append((now(), [each.frame for each in batch.packets]))
            self.sizes.append(batch.ByteSize())

    async def end(self) -> None:
        self._link.end()
        await self._task


@virtual
async def test_a_packet_that_is_alone_leaves_at_once_and_the_next_ones_together() -> None:
    link = Link("g1")
    reader = Reader(link)
    begin = now()
    link.media(packet(1), begin + LATER_S)
    await asyncio.sleep(TICK_S / 4)
    link.media(packet(2, "s2"), now() + LATER_S)
    await asyncio.sleep(TICK_S / 4)
    link.media(packet(3, "s3"), now() + LATER_S)
    await asyncio.sleep(1.0)
    link.media(packet(4), now() + LATER_S)
    alone_at = now()
    await asyncio.sleep(1.0)
    assert reader.batches == [
        (begin, [1]),
        (pytest.approx(begin + TICK_S), [2, 3]),
        (alone_at, [4]),
    ]
    await reader.end()


@pytest.mark.parametrize("due_in_s", [URGENT_S - 0.001, 0.0, -1.0])
@virtual
async def test_a_packet_that_is_due_leaves_at_once_and_what_waits_with_it(due_in_s: float) -> None:
    link = Link("g1")
    reader = Reader(link)
    begin = now()
    link.media(packet(1), begin + LATER_S)
    await asyncio.sleep(TICK_S / 4)
    link.media(packet(2, "s2"), now() + LATER_S)
    await asyncio.sleep(TICK_S / 4)
    link.media(packet(3, "s3"), now() + due_in_s)
    urgent_at = now()
    await asyncio.sleep(1.0)
    assert reader.batches == [(begin, [1]), (urgent_at, [2, 3])]
    await reader.end()


@virtual
async def test_a_message_is_bounded() -> None:
    link = Link("g1")
    reader = Reader(link)
    for frame in range(20):
        link.media(packet(frame, size=BATCH_BYTES // 8), now())
    await asyncio.sleep(1.0)
    assert [frame for _, frames in reader.batches for frame in frames] == list(range(20))
    assert max(reader.sizes) < BATCH_BYTES * 9 // 8 + 1000
    await reader.end()


@virtual
async def test_without_room_an_output_is_dropped_up_to_its_next_keyframe() -> None:
    link = Link("g1")
    assert all(link.media(packet(frame), now()) for frame in range(MEDIA_QUEUE))
    assert not link.media(packet(MEDIA_QUEUE), now())
    reader = Reader(link)
    await asyncio.sleep(1.0)
    assert not link.media(packet(MEDIA_QUEUE + 1), now()), "it builds on what was dropped"
    assert link.media(packet(0, "s2"), now()), "another output lost nothing"
    assert link.media(packet(MEDIA_QUEUE + 2, keyframe=True), now())
    assert link.media(packet(MEDIA_QUEUE + 3), now())
    await reader.end()


@virtual
async def test_the_streams_end_with_the_link_though_packets_wait() -> None:
    link = Link("g1")
    reader = Reader(link)
    await asyncio.sleep(0)
    link.media(packet(1), now() + LATER_S)
    await asyncio.sleep(TICK_S / 4)
    link.media(packet(2), now() + LATER_S)
    await reader.end()
    assert reader.batches[0][1] == [1]


@virtual
async def test_responses_that_wait_leave_as_one_message_of_bounded_length() -> None:
    link = Link("g1")
    reason = "x" * (BATCH_BYTES // 4)
    for number in range(6):
        closed = stream_pb2.Closed(session_id=f"s{number}", reason=reason)
        link.control(stream_pb2.ControlResponse(closed=closed))
    messages = []
    async for message in link.controls():
        messages.append([each.closed.session_id for each in message.more or (message,)])
        if "s5" in messages[-1]:
            link.end()
    assert messages == [["s0", "s1", "s2"], ["s3", "s4", "s5"]]


async def test_a_gateway_that_leaves_a_session_is_forgotten_with_its_outputs() -> None:
    link = Link("g1")
    for frame in range(MEDIA_QUEUE):
        link.media(packet(frame), now() + LATER_S)
    for name in ("s1", "s2"):
        assert not link.media(packet(0, name), now())
    link.forget("s1")
    assert {session_id for session_id, *_ in link._waiting_for_key} == {"s2"}
    link.end()
