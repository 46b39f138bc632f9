"""Settings of a gateway process."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gateway.ingress import IngressSettings
from scheduler.core.errors import ConfigurationError
from scheduler.options import MOST_PORT, split_address
from scheduler.process.config import ProcessSettings, Section
from scheduler.process.logging import Level


class Limits(Section):
    """Bounds of what one client may use."""

    max_upload_bytes: int = 512 * 1024**2
    """Size of one upload in bytes; the actors' decode limit `max_bytes` is the same."""
    upload_session_bytes: int = 4 * 1024**3
    """Size of all uploads of one session in bytes."""
    max_connections: int = 16
    """Connections of one session at once."""
    max_peers: int = 40
    """WebRTC peers of this gateway at once; one core carries some forty."""


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
    ingress: tuple[str, ...] = ("grpc", "reactor")
    """Wires to answer, by plugin name."""
    auth: str = "none"
    """Who may call: the auth plugin. `none` is for one's own machine."""
    ice_servers: tuple[str, ...] = ()
    """STUN and TURN servers for WebRTC. Empty: host candidates alone."""
    storage: str = "filesystem"
    """Storage plugin for uploads."""
    storage_options: dict[str, str] = Field(default_factory=dict)
    """Options of the storage plugin; `filesystem` needs `root`."""
    limits: Limits = Limits()
    """Bounds of what one client may use."""
    otlp_endpoint: str = ""
    """Where traces go (OTLP over gRPC, host:port). Empty: nowhere."""
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

    def ingress_settings(self) -> IngressSettings:
        """Returns what the wires need to know."""
        return IngressSettings(
            grpc_address=f"{self.host}:{self.grpc_port}",
            http_address=f"{self.host}:{self.http_port}",
            public_url=self.public_url or None,
            max_upload_bytes=self.limits.max_upload_bytes,
            upload_session_bytes=self.limits.upload_session_bytes,
            max_connections=self.limits.max_connections,
        )
