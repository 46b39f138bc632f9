"""A real browser as a viewer: headless Chromium, where it is installed."""

from sdk_adapters.harness.generator.doors.chromium.door import ChromiumDoor, why_missing

__all__ = ["ChromiumDoor", "why_missing"]
