"""The trailer with the frame's number."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.frame_metadata import MAGIC, frame_id, trailer

pytestmark = pytest.mark.unit


def parse(data: bytes) -> tuple[bytes, int, int]:
    """Takes a frame apart as a client does, with protobuf's own parser."""
    file = descriptor_pb2.FileDescriptorProto(name="trailer.proto", syntax="proto3")
    message = file.message_type.add(name="Trailer")
    for number, name in ((1, "frame_id"), (2, "capture_time_us")):
        message.field.add(
            name=name,
            number=number,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    descriptor = pool.AddSerializedFile(file.SerializeToString()).message_types_by_name["Trailer"]
    assert data[-4:] == MAGIC
    length = int.from_bytes(data[-8:-4], "little")
    parsed = message_factory.GetMessageClass(descriptor)()
    parsed.ParseFromString(data[-8 - length : -8])
    return data[: -8 - length], parsed.frame_id, parsed.capture_time_us


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**62), st.binary())
def test_a_client_recovers_payload_number_and_time(
    run: int, frame: int, time_us: int, payload: bytes
) -> None:
    assert parse(payload + trailer(run, frame, time_us)) == (
        payload,
        frame_id(run, frame),
        time_us,
    )


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_the_number_is_never_zero_and_gives_run_and_frame_back(run: int, frame: int) -> None:
    number = frame_id(run, frame)
    assert number > 0
    assert (number >> 32, (number & 0xFFFFFFFF) - 1) == (run, frame)


def test_a_time_before_zero_is_sent_as_zero() -> None:
    assert parse(trailer(1, 0, -5))[2] == 0


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**62))
def test_the_trailer_holds_no_h264_start_code(run: int, frame: int, time_us: int) -> None:
    assert b"\x00\x00\x01" not in trailer(run, frame, time_us)
