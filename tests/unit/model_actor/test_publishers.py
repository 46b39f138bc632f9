"""Whose camera counts when several gateways publish one."""

from __future__ import annotations

import pytest

from model_actor.engine.publishers import Publishers

pytestmark = pytest.mark.unit


def test_the_first_counts_and_no_other() -> None:
    publishers = Publishers()
    publishers.add("g1")
    publishers.add("g2")
    publishers.add("g1")
    assert publishers.first == "g1"
    assert (publishers.passes("g1"), publishers.passes("g2")) == (True, False)


def test_the_next_one_counts_when_the_first_has_left() -> None:
    publishers = Publishers()
    for gateway in ("g1", "g2"):
        publishers.add(gateway)
    publishers.remove("g1")
    publishers.remove("g1")
    assert publishers.first == "g2"
    assert (publishers.passes("g1"), publishers.passes("g2")) == (False, True)


def test_who_comes_again_is_the_last() -> None:
    publishers = Publishers()
    for gateway in ("g1", "g2"):
        publishers.add(gateway)
    publishers.remove("g1")
    publishers.add("g1")
    assert publishers.first == "g2"


def test_a_packet_that_overtakes_what_is_told_of_its_camera_passes() -> None:
    publishers = Publishers()
    assert publishers.first is None
    assert publishers.passes("g1")


def test_packets_of_another_gateway_do_not_follow_on() -> None:
    publishers = Publishers()
    came_from = ["g1", "g1", "g2", "g2", "g1"]
    assert [publishers.follows_on(each) for each in came_from] == [True, True, False, True, False]
