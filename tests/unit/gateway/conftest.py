"""Fixtures of the tests of the gateway."""

from tests.unit.gateway.hub_bench import bench

__all__ = ["bench"]
