"""Drives planned visits against a running service, and measures what their users get."""

from sdk_adapters.harness.generator.generator import run
from sdk_adapters.harness.generator.target import Target

__all__ = ["Target", "run"]
