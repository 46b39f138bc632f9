"""Settings of rates, and which calls are counted under which."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gateway.limits.addresses import networks
from gateway.limits.buckets import Rate
from scheduler.process.config import Section

Deed = Literal["create", "exchange", "upload", "signal", "command"]
"""A kind of calls that costs something."""

_RATE: Final = re.compile(
    r"(?P<count>[0-9]{1,6}(\.[0-9]{1,3})?)/(?P<per>[smh]):(?P<burst>[0-9]{1,6})"
)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
OFF: Final = "off"


def parse_rate(text: str) -> Rate | None:
    """Reads `10/s:100`: ten a second on average, a hundred at once; None for `off`.

    Raises:
        ValueError: It has another form.
    """
    if text == OFF:
        return None
    found = _RATE.fullmatch(text)
    per_second = float(found["count"]) / _SECONDS[found["per"]] if found else 0.0
    if found is None or not per_second or not int(found["burst"]):
        raise ValueError("the form is COUNT/s:BURST, with s, m or h, or off")
    return Rate(per_second, int(found["burst"]))


RateText = Annotated[str, Field(max_length=32)]


class RateSettings(Section):
    """How often somebody may call one gateway: `COUNT/s:BURST`, also `/m` and `/h`, or `off`."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """Whether calls are counted: `auto` does where callers are asked who they are."""
    create: RateText = "50/s:500"
    """Sessions created and copied, by each key, narrowed token or user."""
    exchange: RateText = "50/s:500"
    """Tokens made of API keys, by each address."""
    upload: RateText = "100/s:1000"
    """Uploads begun and looked at, by each caller."""
    signal: RateText = "200/s:2000"
    """Offers, candidates and streams, by each caller."""
    command: RateText = "500/s:5000"
    """Commands that are calls of their own, by each caller."""
    address: RateText = "500/s:2000"
    """All calls from one address, whoever makes them: refused before anything else is done."""
    failures: RateText = "5/s:100"
    """Calls from one address that show no good token or key; beyond them none from there is
    looked at."""
    connections: RateText = "200/s:1000"
    """HTTP connections opened from one address; others are closed before anything is read."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks of proxies whose X-Forwarded-For is believed, as 10.0.0.0/8."""

    @field_validator(*get_args(Deed), "address", "failures", "connections")
    @classmethod
    def _is_rate(cls, text: str) -> str:
        try:
            parse_rate(text)
        except ValueError as error:
            raise PydanticCustomError("rate", "{why}", {"why": str(error)}) from None
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        try:
            networks(texts)
        except ValueError:
            raise PydanticCustomError("network", "the form is 10.0.0.0/8 or 10.0.0.1") from None
        return texts

    def rate(self, name: str) -> Rate | None:
        """Returns one of the rates by its name; None where it is off."""
        return parse_rate(getattr(self, name))

    def proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Returns the networks of trusted proxies."""
        return networks(self.trusted_proxies)


_PATHS: Final[tuple[tuple[str, str, Deed], ...]] = (
    ("POST", r"/(sessions|start_session)/?", "create"),
    ("POST", r"/tokens/?", "exchange"),
    ("POST", r"/sessions/[^/]+/forks", "create"),
    ("POST", r"/sessions/[^/]+/uploads", "upload"),
    ("POST|PUT", r"/sessions/[^/]+/transport/.*", "signal"),
    ("POST", r"/sessions/[^/]+/commands", "command"),
    ("POST|PATCH", r"/whip/sessions/.*", "signal"),
    ("POST|PATCH", r"/whep/.*", "signal"),
    ("POST", r"/whip/.*", "create"),
)
_HTTP: Final = tuple((methods.split("|"), re.compile(path), deed) for methods, path, deed in _PATHS)
_GRPC: Final[dict[str, Deed]] = {
    "CreateSession": "create",
    "ForkSession": "create",
    "Upload": "upload",
    "GetUpload": "upload",
    "Signal": "signal",
    "Attach": "signal",
    "Media": "signal",
    "Execute": "command",
}


def http_deed(method: str, path: str) -> Deed | None:
    """Returns what an HTTP request is counted as; None for one that costs little."""
    for methods, pattern, deed in _HTTP:
        if method in methods and pattern.fullmatch(path):
            return deed
    return None


def grpc_deed(method: str) -> Deed | None:
    """Returns what a gRPC call is counted as, by the last part of its name."""
    return _GRPC.get(method)
