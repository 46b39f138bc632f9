"""Fixtures of the tests of our adapters."""

from tests.unit.sdk_adapters.reactor_site import serve, site
from tests.unit.sdk_adapters.whip_site import serve_whip, whip

__all__ = ["serve", "serve_whip", "site", "whip"]
