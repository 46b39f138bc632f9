"""Settings of a model actor. It gets them from whoever launches it, as one plain dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scheduler.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """What one model actor is started with; see `scheduler.backends.launcher.ActorSpec`."""

    actor_id: str
    """Its name in the pool."""
    placement_address: str
    """Address of the scheduler's Placement service."""
    lease_secret: str = field(repr=False)
    """Secret that lease tokens are signed with."""
    model: str
    """Name of the model plugin."""
    model_options: Mapping[str, str] = field(default_factory=dict)
    """Options for the plugin."""
    listen: str = "127.0.0.1:0"
    """Where the data plane listens: `host:port` (port 0 takes a free one) or `unix:/path`."""
    storage: Mapping[str, str] = field(default_factory=dict)
    """The storage plugin under `plugin`, and its options."""
    otlp_endpoint: str | None = None
    """Where traces go; None: nowhere."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the log; set up by the backend that owns the process."""
    bitrate: int = 2_500_000
    """Bits per second of an output to begin with."""
    encoder_threads: int = 0
    """Threads that encode; 0: one a core."""
    start_wait_s: float = 30.0
    """Longest wait of start and resume for compute."""
    spare_decoders: int = 1
    """Decode processes kept warm."""

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> ActorSettings:
        """Reads the dict of a launcher.

        Raises:
            ConfigurationError: It says something that an actor does not know.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(spec.keys() - known)
        if unknown:
            raise ConfigurationError(f"unknown actor settings: {', '.join(unknown)}")
        return cls(**spec)
