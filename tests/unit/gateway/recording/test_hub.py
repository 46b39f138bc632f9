"""What the hub tells of its sessions to what records them."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.ports import Clip
from gateway.recording.errors import ClipFailedError
from gateway.recording.recordings import Recordings
from gateway.session import GatewaySession
from tests.unit.gateway.hub_bench import ME, Bench, bench

pytestmark = pytest.mark.unit

__all__ = ["bench"]


class FakeRecordings:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def opened(self, session: GatewaySession) -> None:
        self.told.append(("opened", session.session_id))

    def ended(self, session_id: str) -> None:
        self.told.append(("ended", session_id))

    def clip(self, session_id: str, duration_s: float | None) -> Clip:
        return Clip(session_id, whole=duration_s is None, start_us=0, end_us=1, ready_at=2.0)


async def test_without_recordings_a_clip_is_refused_in_the_words_clients_know(
    bench: Bench,
) -> None:
    session = await bench.ready()
    with pytest.raises(ClipFailedError) as refused:
        session.request_clip(2.0)
    assert str(refused.value) == "recorder disabled"


async def test_a_session_is_recorded_from_its_first_actor_to_its_end(bench: Bench) -> None:
    recordings = FakeRecordings()
    bench.hub._recordings = cast(Recordings, recordings)
    session = await bench.ready()
    assert recordings.told == [("opened", session.session_id)]
    assert session.request_clip(None) == Clip(
        session.session_id, whole=True, start_us=0, end_us=1, ready_at=2.0
    )
    await bench.hub.close(ME, session.session_id, "enough")
    assert recordings.told[1:] == [("ended", session.session_id)]


async def test_a_gateway_that_stops_ends_no_recording(bench: Bench) -> None:
    recordings = FakeRecordings()
    bench.hub._recordings = cast(Recordings, recordings)
    await bench.ready()
    await bench.hub.stop("shutting down")
    assert [what for what, _ in recordings.told] == ["opened"]
