"""Settings of a model actor. It gets them from whoever launches it, as one plain dict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_actor.media.encoding.choice import Wanted, wanted
from model_actor.media.limits import DecodeLimits
from model_actor.plugin import Model
from model_actor.snapshots.kept import DAY_S
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.process import plugins


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
    trace_ratio: float = 1.0
    """Share of the traces begun here that is recorded; set up by the backend, as the log is."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the log; set up by the backend that owns the process."""
    bitrate: int = 2_500_000
    """Bits per second of an output to begin with."""
    encoder_threads: int = 0
    """Threads that encode; 0: one a core."""
    encoder: Wanted = "auto"
    """What encodes H.264: NVENC where it works (`auto`), the CPU (`software`), NVENC or nothing
    (`nvenc`). VP8 is always encoded by the CPU."""
    start_wait_s: float = 30.0
    """Longest wait of start and resume for compute."""
    spare_decoders: int = 1
    """Decode processes kept warm."""
    decode_limits: DecodeLimits = field(default_factory=DecodeLimits)
    """Bounds on clips, cameras and the processes that decode them."""
    snapshot_every: int = 4
    """Windows from one kept state of a session to the next; 0 keeps none while it runs."""
    snapshot_root: str = ""
    """Folder in the memory of the host for kept states, shared by the service's actors there;
    empty: nothing is kept on the host."""
    snapshot_bytes: int = 0
    """Most bytes of kept states on the host; 0: as much as the folder takes."""
    store_after_s: float | None = 600.0
    """How long what nobody has needed stays on the host before it goes to the storage; None: it
    stays there."""
    kept_for_s: float = DAY_S
    """How long it is kept, on the host and in the storage, unless somebody says that it is
    needed still."""
    journal: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the journals of sessions, as `JournalRules` has them; empty: none are kept."""
    host: str = ""
    """Name of the host that this actor is on; empty: the machine's own."""
    tls: str = ""
    """Folder with the certificate that it shows and asks for; empty: TCP stays in the clear."""

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> ActorSettings:
        """Reads the dict of a launcher.

        Raises:
            ConfigurationError: It says something that an actor does not know, or a bound
                that makes no sense.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(spec.keys() - known)
        if unknown:
            raise ConfigurationError(f"unknown actor settings: {', '.join(unknown)}")
        if any(spec.get(name, 0) < 0 for name in ("snapshot_every", "snapshot_bytes")):
            raise ConfigurationError("snapshot_every and snapshot_bytes are 0 or more")
        return cls(
            **{
                **spec,
                "decode_limits": decode_limits(spec.get("decode_limits", {})),
                "encoder": wanted(spec.get("encoder", "auto")),
            }
        )

    def configured_model(self) -> Model:
        """Makes the model with its options. Nothing is loaded yet.

        Raises:
            PluginError: The model is missing or broken, or refuses its options.
        """
        model: Model = plugins.load("sana_gateway.models", self.model)()
        try:
            model.configure(dict(self.model_options))
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(
                f"model {self.model!r} refuses its options: {type(error).__name__}: {error}"
            ) from error
        return model


def check(spec: Mapping[str, Any]) -> None:
    """Refuses what no actor could start with, before one is launched. Loads no weights.

    Raises:
        PluginError: The model is missing or broken, or refuses its options.
        ConfigurationError: A setting is unknown, or a bound makes no sense.
    """
    ActorSettings.from_spec(spec).configured_model()


def decode_limits(given: Mapping[str, str]) -> DecodeLimits:
    """Reads bounds by name; what is not given stays as it is.

    Raises:
        ConfigurationError: There is no such bound, or its value is no number above zero.
    """
    kinds = {name: type(value) for name, value in dataclasses.asdict(DecodeLimits()).items()}
    if unknown := sorted(given.keys() - kinds.keys()):
        raise ConfigurationError(
            f"unknown decode limits: {', '.join(unknown)}; there are {', '.join(kinds)}"
        )
    values = {name: _above_zero(name, text, kinds[name]) for name, text in given.items()}
    return dataclasses.replace(DecodeLimits(), **values)


def _above_zero(name: str, text: str, kind: type[int | float]) -> Any:  # noqa: ANN401 - by kind
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not (value > 0 and math.isfinite(value)):
        noun = "whole number" if kind is int else "number"
        raise ConfigurationError(f"the decode limit {name} is a {noun} above zero")
    return value
