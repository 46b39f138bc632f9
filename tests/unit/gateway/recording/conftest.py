"""Fixtures of the tests of recordings."""

from tests.unit.gateway.recording.studio import studio

__all__ = ["studio"]
