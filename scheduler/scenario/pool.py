"""What there is to serve sessions, as the simulator has it, and what must hold there.

A key that ends in its unit (`chunk_ms`, `memory_gb`) takes a number; all other times are
durations.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scheduler.core.geometry import Geometry
from scheduler.core.pool_events import PoolRules
from scheduler.scenario.distributions import Distribution, Fixed
from scheduler.scenario.durations import Duration, Span
from scheduler.scenario.record import Record, Share

GEOMETRY = Geometry()
"""Windows of 33 and then 24 frames, as the model's."""


class Storm(Record):
    """GPUs that die in a short time, without warning."""

    kind: Literal["failure-storm"]
    at: Duration
    share: Share
    """Of the GPUs that are up."""
    over: Span = 60.0


class Reclaim(Record):
    """GPUs that the cloud takes back after a notice: their sessions are moved within it."""

    kind: Literal["spot-reclaim"]
    at: Duration
    share: Share
    """Of the GPUs that are up."""
    notice: Span = 120.0


class Wear(Record):
    """GPUs that die now and then, each by itself."""

    kind: Literal["wear"]
    mean: Span
    """Mean time between two failures of one GPU."""


Disturbance = Annotated[Storm | Reclaim | Wear, Field(discriminator="kind")]


_BatchSize = Annotated[int, Field(ge=2)]


class ModelCosts(Record):
    """What the model takes of a GPU."""

    name: str = "sana-streaming"
    chunk_ms: float = Field(gt=0)
    """Compute of one steady chunk."""
    chunk_jitter_ms: float = Field(default=3.0, ge=0)
    """Standard deviation of that."""
    batch_gains: dict[_BatchSize, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """What windows of several sessions gain by running together, by their number: 2 where two
    take as long as one. Known from the start, as if it had been measured; none given: none do."""
    frame_rate: float = Field(default=24.0, gt=0)
    session_gb: float = Field(default=2.0, gt=0)
    """Memory of one session on the GPU, and of its snapshot elsewhere."""
    weights_gb: float = Field(default=13.0, ge=0)

    @property
    def period_ms(self) -> float:
        """Play-out time of one chunk."""
        return 1000.0 * GEOMETRY.window / self.frame_rate


class Costs(Record):
    """How long what the pool orders takes."""

    admit_ms: float = Field(default=20.0, gt=0)
    """From the order to admit a session to the actor's answer."""
    host_gb_per_s: float = Field(default=25.0, gt=0)
    """Snapshots to and from the memory of the same host."""
    network_gb_per_s: float = Field(default=3.0, gt=0)
    """Snapshots to and from the storage or another host."""
    transit_ms: float = Field(default=10.0, ge=0)
    """From a finished chunk to its first packet at the play-out clock."""
    notice_ms: float = Field(default=50.0, ge=0)
    """From the death of a GPU's process to the scheduler's and the gateways' knowing of it."""


class Scaling(Record):
    """How the number of GPUs follows the pool's own signal `actors_wanted`."""

    every: Span = 10.0
    spare_share: Share = 0.0
    """GPUs beyond those wanted, as a share of them. What the pool wants has its reserve for
    sessions that come back; that also bridges the time in which a GPU boots."""
    spare_gpus: int = Field(default=2, ge=0)
    """And at least so many of them."""
    calm: Span = 300.0
    """A GPU is given back when it was needed at no moment of so long a time."""
    surge: int = Field(default=64, gt=0)
    """Most GPUs that boot at once."""


class PoolSpec(Record):
    """What there is to serve sessions."""

    gpus: int = Field(gt=0)
    """Most that may be up at once."""
    gpus_at_start: int | None = Field(default=None, ge=0)
    """Up when the run begins; none given: as many as the first sessions need."""
    gpus_per_host: int = Field(default=8, gt=0)
    memory_gb: float = Field(default=141.0, gt=0)
    """Of one GPU."""
    model: ModelCosts
    boot: Distribution = Fixed(kind="fixed", value=120.0)
    """From asking for a GPU to its actor's registration: node, weights, warm-up chunk."""
    costs: Costs = Costs()
    scaling: Scaling = Scaling()
    disturbances: tuple[Disturbance, ...] = ()
    policy: Literal["pack", "spread", "least-loaded"] = "pack"
    rules: dict[str, float] = Field(default_factory=dict)
    """Limits and deadlines of the scheduler that differ from its defaults, by name."""

    @model_validator(mode="after")
    def _sensible(self) -> PoolSpec:
        unknown = self.rules.keys() - PoolRules.__dataclass_fields__.keys()
        if unknown:
            raise ValueError(f"no such rules: {', '.join(sorted(unknown))}")
        if self.resident_slots < 1:
            raise ValueError("one session does not fit into the memory of a GPU")
        return self

    @property
    def resident_slots(self) -> int:
        """Sessions that the memory of one GPU holds."""
        return math.floor((self.memory_gb - self.model.weights_gb) / self.model.session_gb)

    def pool_rules(self) -> PoolRules:
        """Returns the rules for the scheduler's core."""
        defaults = PoolRules()
        kinds = {name: type(getattr(defaults, name)) for name in self.rules}
        return PoolRules(**{name: kinds[name](value) for name, value in self.rules.items()})

    @property
    def compute_slots(self) -> int:
        """Sessions that one GPU computes at once, at least one: what the bound counts with."""
        cost = self.model.chunk_ms * 1000.0 / self.model.period_ms
        return max(1, math.floor(self.pool_rules().compute_ceiling / cost + 1e-9))


class Targets(Record):
    """What must hold; the run fails otherwise. Nothing is asked where none is given."""

    in_time: Share | None = None
    """Least share of chunks that are there when they are due."""
    wait_p95_s: float | None = Field(default=None, ge=0)
    """Most seconds that 95 of 100 starts and resumes wait."""
    rejected: Share | None = None
    """Largest share of arrivals that are turned away."""
    of_bound: float | None = Field(default=None, ge=1)
    """Most GPU-hours, in multiples of the bound."""
    of_one_per_gpu: float | None = Field(default=None, gt=0)
    """Most GPU-hours, in multiples of what one session per GPU takes."""
    wall_s: float | None = Field(default=None, gt=0)
    """Most seconds of this machine for the whole run."""
