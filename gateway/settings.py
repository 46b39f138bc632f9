"""Settings of a gateway process."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.auth.jwks_settings import JwksSettings
from gateway.doors import DoorFiles
from gateway.front_door.routing import Share
from gateway.ingress import IngressSettings
from gateway.limits.calls import CallRates
from gateway.limits.settings import RateSettings
from gateway.moderation.asking import Policy
from gateway.origins import Origins, is_origin
from scheduler.core.errors import ConfigurationError
from scheduler.options import MOST_PORT, split_address
from scheduler.process.config import ProcessSettings, Section
from scheduler.process.logging import Level

MOST_WORKERS = 64
_ICE_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:(?P<user>[^:@/?]+):(?P<password>[^:@/?]+)@)?"
    r"(?P<rest>(?:\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]?]+)(?::[0-9]{1,5})?(?:\?transport=(?:udp|tcp))?)"
)


@dataclass(frozen=True, slots=True)
class IceLogin:
    """A STUN or TURN server (RFC 7064, 7065) and how to log in there."""

    url: str
    """Without the login."""
    username: str | None = None
    credential: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> IceLogin | None:
        """Reads `turn:user:password@host:port`, percent-encoded where need be; None if it is
        none.
        """
        found = _ICE_URL.fullmatch(text)
        if found is None:
            return None
        url = f"{found['scheme']}:{found['rest']}"
        if found["user"] is None:
            return cls(url)
        return cls(url, unquote(found["user"]), unquote(found["password"]))


def port_range(text: str, index: int, parts: int) -> tuple[int, int] | None:
    """Returns the lowest and highest port of one part of a range.

    Args:
        text: `LOW-HIGH`, both included.
        index: Which part, from 0.
        parts: How many of equal size it is split into; what is left over stays unused.

    Returns:
        None when it is no range, or has fewer ports than parts.
    """
    low, _, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal() and len(text) <= 11):
        return None
    first, last = int(low), int(high)
    each = (last - first + 1) // parts
    if not (first > 0 and last <= MOST_PORT and each > 0):
        return None
    return first + index * each, first + (index + 1) * each - 1


class Limits(Section):
    """Bounds of what one client may use."""

    max_upload_bytes: int = 512 * 1024**2
    """Size of one upload in bytes; the actors' decode limit `max_bytes` is the same."""
    upload_session_bytes: int = 4 * 1024**3
    """Size of all uploads of one session in bytes."""
    uploads_kept_s: float = Field(default=7 * 86_400.0, ge=3600)
    """Seconds that uploads are kept whose session nobody knows: that of a gateway that died."""
    max_connections: int = 16
    """Connections of one session at once."""
    max_peers: int = 40
    """WebRTC peers of one process at once; one core carries some forty."""


class RecordingSettings(Section):
    """Recordings of sessions (docs/recording.md)."""

    enabled: bool = False
    """Record every session: clips and recordings for Reactor clients."""
    folder: str = ""
    """Folder for recordings, the same for all gateways. Empty: in the storage of uploads."""
    session_bytes: int = Field(default=2 * 1024**3, ge=1)
    """Size of the recording of one session in bytes: the oldest of it goes first."""
    total_bytes: int = Field(default=64 * 1024**3, ge=1)
    """Size of all recordings in bytes: those of the sessions that ended first go first."""
    kept_s: float = Field(default=86_400.0, ge=0)
    """Seconds that a recording is kept after its session has ended."""


class ModerationSettings(Section):
    """Who judges prompts before they are set (docs/moderation.md)."""

    plugin: str = ""
    """Who judges prompts before they are set: the moderation plugin. Empty: nobody."""
    options: dict[str, str] = Field(default_factory=dict)
    """Options of that plugin."""
    timeout_s: float = Field(default=2.0, gt=0, le=60)
    """Seconds it may take for a prompt."""
    on_failure: Policy = "refuse"
    """What becomes of a prompt when it fails or takes longer: refuse, or allow."""


class GatewaySettings(ProcessSettings):
    """What a gateway is started with."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    http_port: int = Field(8080, ge=0, le=MOST_PORT)
    """Port of HTTP: signalling of WebRTC clients, uploads, health. 0 takes a free one."""
    grpc_port: int = Field(50051, ge=0, le=MOST_PORT)
    """Port of gRPC. 0 takes a free one."""
    public_url: str = ""
    """URL under which clients reach HTTP, where it is not the one they asked."""
    placement_address: str = "127.0.0.1:50061"
    """Address of the scheduler: host:port, or unix:/path."""
    tls: str = ""
    """Folder of `sana-gateway certs`: mutual TLS to scheduler and actors. Empty: in the clear."""
    tls_cert: str = ""
    """Certificate that clients are shown over HTTP and gRPC, a PEM file. Empty: in the clear."""
    tls_key: str = ""
    """Key of that certificate, a PEM file without a password."""
    client_ca: str = ""
    """Authority of clients, a PEM file: whoever has no certificate of it is not heard."""
    audit_log: str = ""
    """File that what operators do is appended to; `-` for standard output. Empty: nowhere."""
    ingress: tuple[str, ...] = ("grpc", "reactor", "whip")
    """Wires to answer, by plugin name."""
    auth: str = "none"
    """Who may call: the auth plugin, or several with commas, as `api-key,jwks`. `none` is for
    one's own machine."""
    api_keys: str = ""
    """File of API keys, for `--auth api-key`; docs/auth.md says what is in it."""
    token_secret: str = ""
    """File of the secret that signs tokens, one for all gateways. Empty: this user's own here."""
    auth_options: dict[str, str] = Field(default_factory=dict)
    """Options of another auth plugin."""
    media_workers: int = Field(0, ge=0, le=MOST_WORKERS)
    """Processes for media behind a front door with the public ports. 0: all in one process."""
    ice_servers: tuple[str, ...] = ()
    """STUN and TURN servers, `turn:user:password@host:port`. Empty: host candidates alone."""
    udp_ports: str = ""
    """UDP ports for WebRTC, LOW-HIGH, shared out among the media workers. Empty: free ones."""
    udp_address: str = ""
    """IP address under which clients reach `udp_ports`, where a load balancer passes them on."""
    storage: str = "filesystem"
    """Storage plugin for uploads."""
    storage_options: dict[str, str] = Field(default_factory=dict)
    """Options of the storage plugin; `filesystem` needs `root`."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call, as https://app.example.com; `*`: all; `loopback`: those
    that this machine serves. Empty: all where callers are asked who they are, else `loopback`."""
    turn_secret: str = ""
    """File of the secret shared with TURN servers: each connection gets a login of its own."""
    turn_lifetime_s: float = Field(default=3600.0, ge=1, le=86_400)
    """How long such a login is good for, in seconds."""
    jwks: JwksSettings = JwksSettings()
    """Identity provider, for `--auth jwks`."""
    rates: RateSettings = RateSettings()
    """How often somebody may call."""
    limits: Limits = Limits()
    """Bounds of what one client may use."""
    moderation: ModerationSettings = ModerationSettings()
    """Who judges prompts."""
    recording: RecordingSettings = RecordingSettings()
    """Recordings of sessions."""
    otlp_endpoint: str = ""
    """Where traces go (OTLP over gRPC, host:port). Empty: nowhere."""
    trace_ratio: float = Field(1.0, ge=0, le=1)
    """Share of the traces begun here that is recorded, 0 to 1; clients decide on their own."""
    log_level: Level = "info"
    """Least severe level that is logged."""

    @field_validator("placement_address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        if not address.startswith("unix:/"):
            try:
                split_address(address)
            except ConfigurationError:
                raise PydanticCustomError(
                    "address", "the form is host:port or unix:/path"
                ) from None
        return address

    @field_validator("udp_address")
    @classmethod
    def _is_ip(cls, address: str) -> str:
        try:
            return address and str(ip_address(address))
        except ValueError:
            raise PydanticCustomError("ip", "the form is an IP address") from None

    @field_validator("ice_servers")
    @classmethod
    def _are_ice_servers(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if IceLogin.parse(url) is None:
                raise PydanticCustomError(
                    "ice", "the form is stun:host:port or turn:user:password@host:port"
                )
        return urls

    @model_validator(mode="after")
    def _has_both_of_tls(self) -> GatewaySettings:
        if bool(self.tls_cert) is not bool(self.tls_key) or (self.client_ca and not self.tls_cert):
            raise PydanticCustomError(
                "tls", "tls_cert and tls_key belong together, and client_ca to both"
            )
        return self

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_origin(each) for each in origins):
            raise PydanticCustomError(
                "origin", "the form is https://host or https://host:port, in small letters"
            )
        return origins

    @model_validator(mode="after")
    def _has_ports_for_all(self) -> GatewaySettings:
        if self.udp_ports and port_range(self.udp_ports, 0, max(1, self.media_workers)) is None:
            raise PydanticCustomError(
                "ports", "udp_ports: the form is LOW-HIGH, with a port for each media worker"
            )
        return self

    def door_files(self) -> DoorFiles | None:
        """Returns what the public doors show; None: they are in the clear."""
        if not self.tls_cert:
            return None
        ca = Path(self.client_ca) if self.client_ca else None
        return DoorFiles(Path(self.tls_cert), Path(self.tls_key), ca)

    @property
    def asks_callers(self) -> bool:
        """Whether callers are asked who they are."""
        return self.auth != "none"

    def call_rates(self) -> CallRates | None:
        """Returns how often who may call the public doors; None: any number of times."""
        wanted = self.rates.enabled
        counts = self.asks_callers if wanted == "auto" else wanted == "on"
        return CallRates(self.rates) if counts else None

    def ice(self) -> tuple[IceLogin, ...]:
        """Returns the STUN and TURN servers."""
        return tuple(server for url in self.ice_servers if (server := IceLogin.parse(url)))

    def udp_port_range(self, share: Share) -> tuple[int, int] | None:
        """Returns the lowest and highest UDP port of one process; None: any free ones."""
        return port_range(self.udp_ports, share.index, share.workers) if self.udp_ports else None

    def ingress_settings(self) -> IngressSettings:
        """Returns what the wires need to know."""
        return IngressSettings(
            grpc_address=f"{self.host}:{self.grpc_port}",
            http_address=f"{self.host}:{self.http_port}",
            public_url=self.public_url or None,
            max_upload_bytes=self.limits.max_upload_bytes,
            upload_session_bytes=self.limits.upload_session_bytes,
            max_connections=self.limits.max_connections,
            origins=Origins.of(self.cors_origins, authenticated=self.asks_callers),
        )


def exposed(settings: GatewaySettings) -> tuple[str, ...]:
    """Returns the public addresses on which callers show keys or tokens."""
    if not settings.asks_callers:
        return ()
    addresses = settings.ingress_settings()
    grpc = (addresses.grpc_address,) if "grpc" in settings.ingress else ()
    return (addresses.http_address, *grpc)
