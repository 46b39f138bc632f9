"""Fixtures of the tests of our adapters."""

from tests.unit.sdk_adapters.reactor_site import serve, site

__all__ = ["serve", "site"]
