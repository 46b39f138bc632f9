"""How the load harness puts a workload on a service, and what it asks of it.

Everything has a default, so that a scenario written for the simulator can be put on a real
service as it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from scheduler.scenario.record import Name, NamedFile, Record, Share

Wire = Literal["grpc", "webrtc", "chromium"]
Codec = Literal["h264", "vp8"]

_Weight = Annotated[float, Field(ge=0)]

PROMPTS = (
    "a watercolour painting",
    "a snowy evening",
    "a charcoal drawing",
    "neon lights in the rain",
    "an autumn forest",
    "a stop-motion film of clay",
)
"""What is asked for where a scenario does not say."""


def _some(weights: dict[str, float]) -> dict[str, float]:
    if sum(weights.values()) <= 0:
        raise ValueError("all weights are 0")
    return weights


_Side = Annotated[int, Field(ge=16, le=4096, multiple_of=2)]
_Rate = Annotated[float, Field(gt=0, le=240)]
_Milliseconds = Annotated[float, Field(ge=0, le=60_000)]


class Clip(Record):
    """What file sessions edit: a clip that is drawn, or a file."""

    path: NamedFile | None = None
    seconds: float = Field(default=10.0, gt=0, le=3600)
    width: _Side = 320
    height: _Side = 176
    frame_rate: _Rate = 24.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Clip:
        if self.path is not None and self.model_fields_set != {"path"}:
            raise ValueError("a clip is drawn or read from a path, not both")
        return self


class Camera(Record):
    """What live sessions send."""

    width: _Side = 320
    height: _Side = 176
    frame_rate: _Rate = 24.0


class Network(Record):
    """What lies between some of the sessions and the service."""

    name: Name
    share: float = Field(gt=0)
    """Weight among the networks."""
    loss: Share = 0.0
    """Share of the packets that are dropped, each way."""
    delay_ms: _Milliseconds = 0.0
    """Added each way."""
    jitter_ms: _Milliseconds = 0.0
    """Standard deviation of that."""
    rate_kbit: float | None = Field(default=None, gt=0)
    """Most kilobits per second, each way; None: no limit."""
    turn_only: bool = False
    """Whether WebRTC goes through the TURN server whatever else would do."""

    @property
    def shaped(self) -> bool:
        """Whether packets have to be touched for it."""
        return bool(self.loss or self.delay_ms or self.jitter_ms or self.rate_kbit)


class Limits(Record):
    """Beyond these the generator has measured itself, and the run is invalid."""

    generator_cpu: Share = 0.85
    """Of one core, for the busiest process."""
    generator_lag_ms: float = Field(default=50.0, gt=0)
    """How late its event loops run, 99 of 100."""


class LoadSpec(Record):
    """How the sessions of a workload reach a service."""

    model: str = ""
    """Model that is asked for; empty: the one that the service serves."""
    wires: Annotated[dict[Wire, _Weight], AfterValidator(_some)] = Field(
        default={"grpc": 0.5, "webrtc": 0.5}
    )
    """Weight of each way to the service; one that is not named is not used."""
    codecs: Annotated[dict[Codec, _Weight], AfterValidator(_some)] = Field(default={"h264": 1.0})
    decode: Share = 0.1
    """Share of the sessions whose pictures are decoded and read."""
    clip: Clip = Clip()
    camera: Camera = Camera()
    prompts: tuple[str, ...] = Field(default=PROMPTS, min_length=1)
    networks: tuple[Network, ...] = Field(default=(Network(name="clean", share=1),), min_length=1)
    video: Literal["canned", "encoded"] = "canned"
    """What a service that is started for the run shows: prepared pictures, which cost nothing, or
    pictures encoded for each session, whose markers tell their prompt and camera frame."""
    processes: int = Field(default=0, ge=0, le=256)
    """Over how many processes the sessions are spread; 0: the cores but one, at least one."""
    limits: Limits = Limits()
    strict: bool = False
    """Whether a run is refused that would leave out a part of this: a network that cannot be made,
    or a wire that is not installed. Else it is made without, and says so."""

    @model_validator(mode="after")
    def _different(self) -> LoadSpec:
        if len({network.name for network in self.networks}) < len(self.networks):
            raise ValueError("two networks have the same name")
        return self


class Bounds(Record):
    """What is asked of one metric: bounds from above, or from below where more is better."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    total: float | None = None
    """Of a count, over all sessions."""
    share: float | None = None
    """Of a share, over all sessions."""

    @model_validator(mode="after")
    def _something(self) -> Bounds:
        if not self.asked:
            raise ValueError("nothing is asked: give p95, max, total, share or another")
        return self

    @property
    def asked(self) -> dict[str, float]:
        """The bounds that are given, by statistic."""
        return self.model_dump(exclude_none=True)


Slo = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Bounds]
"""What is asked, by metric. Which metrics there are knows the load harness
(`sdk_adapters/harness/metrics.py`)."""
