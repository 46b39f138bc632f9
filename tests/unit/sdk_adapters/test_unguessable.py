"""Whatever is reached by its name alone, or could be asked for by trying: 122 bits or more."""

from __future__ import annotations

import math
import string
from typing import Any

import pytest

from gateway.auth import details
from gateway.auth.tokens import Claims, TokenSigner
from gateway.front_door.routing import WHOLE, Share
from gateway.keys_command import KEY_BYTES
from gateway.settings import MOST_WORKERS
from gateway.uploads import StoredUploads
from sdk_adapters.reactor.uploads import Capabilities
from sdk_adapters.whip.resources import Resource
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import connect

pytestmark = pytest.mark.unit

LEAST_BITS = 122
HEX, URL = set(string.hexdigits.lower()), set(string.ascii_letters + string.digits + "-_")


def bits(drawn: list[str], alphabet: set[str]) -> float:
    """Returns how many bits are drawn: of the characters that differ between two of many."""
    (length,) = {len(each) for each in drawn}
    assert len(set(drawn)) == len(drawn)
    free = [index for index in range(length) if len({each[index] for each in drawn}) > 1]
    assert all(each[index] in alphabet for each in drawn for index in free)
    return len(free) * math.log2(len(alphabet))


class Nowhere:
    """A storage that keeps nothing."""

    async def create(self, *_: Any) -> None:
        """Does nothing."""


def test_sessions() -> None:
    assert bits([WHOLE.new_session_id() for _ in range(64)], HEX) >= LEAST_BITS
    # One of many workers draws until an id is its own: so many fewer there are.
    share = Share(3, MOST_WORKERS)
    drawn = [share.new_session_id() for _ in range(64)]
    assert bits(drawn, HEX) - math.log2(MOST_WORKERS) >= LEAST_BITS


async def test_uploads_and_the_addresses_that_they_go_to() -> None:
    uploads = StoredUploads(
        Nowhere(),  # type: ignore[arg-type]
        max_upload_bytes=1,
        upload_session_bytes=100,
    )
    made = [await uploads.reserve("s", "a", "", 1) for _ in range(64)]
    assert bits([each.file.upload_id for each in made], HEX) >= LEAST_BITS
    # Signed with a key of this process: another one's is worth nothing.
    one, other = (Capabilities().of("s", "u", 0.0) for _ in range(2))
    assert one[:43] != other[:43]


async def test_resources_of_publishers_and_players() -> None:
    connection = await connect(FakeHub())
    made = [Resource("whep", connection, "") for _ in range(64)]
    assert bits([each.resource_id for each in made], URL) >= LEAST_BITS


def test_keys_and_tokens() -> None:
    assert KEY_BYTES * 8 >= LEAST_BITS
    signer = TokenSigner({"a": "x" * 32}, lambda: 0.0)
    claims = Claims("a-token", "web", "mark", details.Narrowing(), 100)
    assert len(signer.sign(claims).rpartition(".")[2]) * 6 >= LEAST_BITS
