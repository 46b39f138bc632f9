"""What of a call's headers is passed on."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.front_door.headers import HOP_BY_HOP, end_to_end, forwarded, passed_metadata

pytestmark = pytest.mark.unit


def test_headers_of_the_connection_stay_with_it() -> None:
    headers = CIMultiDict({name.title(): "x" for name in HOP_BY_HOP} | {"Content-Type": "a/b"})
    assert list(end_to_end(headers).items()) == [("Content-Type", "a/b")]


def test_headers_that_connection_names_stay_too() -> None:
    headers = CIMultiDict([("Connection", "X-Mine, close"), ("X-Mine", "1"), ("X-Other", "2")])
    assert dict(end_to_end(headers)) == {"X-Other": "2"}


def test_repeated_headers_are_all_passed_on() -> None:
    headers = CIMultiDict([("Accept", "a"), ("Accept", "b")])
    assert end_to_end(headers).getall("Accept") == ["a", "b"]


def test_the_host_stays_and_the_client_is_named() -> None:
    passed = forwarded(CIMultiDict({"Host": "video.example"}), "http", "10.0.0.9")
    assert passed["Host"] == "video.example"
    assert passed["X-Forwarded-Proto"] == "http"
    assert passed["X-Forwarded-For"] == "10.0.0.9"


def test_what_a_proxy_before_us_says_is_passed_on() -> None:
    said = CIMultiDict({"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"})
    passed = forwarded(said, "http", "10.0.0.9")
    assert passed["X-Forwarded-Proto"] == "https"
    assert passed["X-Forwarded-For"] == "192.0.2.1, 10.0.0.9"


def test_metadata_is_passed_on_but_for_what_grpc_writes_itself() -> None:
    metadata = (
        ("authorization", "Bearer t"),
        ("user-agent", "grpc-python"),
        ("grpc-accept-encoding", "gzip"),
        ("traceparent", "00-1-2-01"),
        ("some-bin", b"\x00\xff"),
    )
    assert passed_metadata(metadata) == (metadata[0], metadata[3], metadata[4])
    assert passed_metadata(None) == ()
