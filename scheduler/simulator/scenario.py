"""The schema of a scenario: who comes, what there is to serve them, and what must hold.

The three parts know nothing of each other, so that the load harness can put the same
workload on a real pool.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from scheduler.core.errors import ConfigurationError
from scheduler.core.geometry import Geometry
from scheduler.core.pool_events import PoolRules
from scheduler.simulator.distributions import (
    Distribution,
    Exponential,
    Fixed,
    Lognormal,
    NamedFile,
    Record,
)

GEOMETRY = Geometry()
"""Windows of 33 and then 24 frames, as the model's."""

Share = Annotated[float, Field(ge=0, le=1)]


class Steady(Record):
    """Arrivals at one rate, at random moments (Poisson)."""

    kind: Literal["steady"]
    connected: float = Field(gt=0)
    """Sessions that are connected on average."""


class Diurnal(Record):
    """Arrivals that follow the day, as a sine between a trough and a peak (Poisson)."""

    kind: Literal["diurnal"]
    connected: float = Field(gt=0)
    """Sessions that are connected at the peak."""
    trough: Share = 0.4
    """Share of the peak at the quietest hour."""
    peak_hour: float = Field(default=12.0, ge=0, le=24)
    """Hours from the beginning of the run to the peak; the trough is twelve away from it."""


class ArrivalTrace(Record):
    """Arrivals from a CSV file with a heading: `arrive_s` and, where known, `length_s`
    (seconds) and `mode` (live or file). What is missing is drawn.
    """

    kind: Literal["trace"]
    path: NamedFile


class Crowd(Record):
    """Sessions that come all at once, beside the others: a flash crowd."""

    at_minutes: float = Field(ge=0)
    sessions: int = Field(gt=0)
    over_seconds: float = Field(default=60.0, gt=0)
    """They come evenly at random within this time."""


class Workload(Record):
    """Who comes, and what they do. Nothing here knows of GPUs."""

    arrivals: Annotated[Steady | Diurnal | ArrivalTrace, Field(discriminator="kind")]
    crowds: tuple[Crowd, ...] = ()
    session_minutes: Distribution = Lognormal(kind="lognormal", mean=30.0)
    """From connecting to leaving."""
    think_seconds: Distribution = Exponential(kind="exponential", mean=10.0)
    """From connecting to the first `start`: choosing a clip, writing a prompt."""
    play_minutes: Distribution = Exponential(kind="exponential", mean=9.0)
    """From `start` or `resume` to `pause` or the end of the clip."""
    pause_minutes: Distribution = Exponential(kind="exponential", mean=6.0)
    """From there to the next `start` or `resume`."""
    live_share: Share = 0.7
    """Sessions that edit a camera; the others edit a clip."""
    prompts_per_minute: float = Field(default=1.0, ge=0)
    """While playing. Placement does not depend on it; the load harness sends them."""


class Storm(Record):
    """GPUs that die in a short time, without warning."""

    kind: Literal["failure-storm"]
    at_minutes: float = Field(ge=0)
    share: Share
    """Of the GPUs that are up."""
    over_seconds: float = Field(default=60.0, gt=0)


class Reclaim(Record):
    """GPUs that the cloud takes back after a notice: their sessions are moved within it."""

    kind: Literal["spot-reclaim"]
    at_minutes: float = Field(ge=0)
    share: Share
    """Of the GPUs that are up."""
    notice_seconds: float = Field(default=120.0, gt=0)


class Wear(Record):
    """GPUs that die now and then, each by itself."""

    kind: Literal["wear"]
    mean_hours: float = Field(gt=0)
    """Mean time between two failures of one GPU."""


Disturbance = Annotated[Storm | Reclaim | Wear, Field(discriminator="kind")]


class ModelCosts(Record):
    """What the model takes of a GPU."""

    name: str = "sana-streaming"
    chunk_ms: float = Field(gt=0)
    """Compute of one steady chunk."""
    chunk_jitter_ms: float = Field(default=3.0, ge=0)
    """Standard deviation of that."""
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

    every_seconds: float = Field(default=10.0, gt=0)
    spare_share: Share = 0.0
    """GPUs beyond those wanted, as a share of them. What the pool wants has its reserve for
    sessions that come back; that also bridges the time in which a GPU boots."""
    spare_gpus: int = Field(default=2, ge=0)
    """And at least so many of them."""
    calm_minutes: float = Field(default=5.0, gt=0)
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
    boot_seconds: Distribution = Fixed(kind="fixed", value=120.0)
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


class Scenario(Record):
    """One run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    summary: str = ""
    """One sentence for people."""
    hours: float = Field(default=24.0, gt=0)
    """Simulated time that is measured."""
    warm_up_minutes: float = Field(default=30.0, ge=0)
    """Simulated before that, and not measured."""
    seed: int = Field(default=1, ge=0)
    workload: Workload
    pool: PoolSpec
    targets: Targets = Targets()


def parse(document: object, origin: str, folder: Path | None = None) -> Scenario:
    """Reads a scenario from what a YAML or JSON file holds.

    Args:
        document: The file's content.
        origin: What to call it in an error.
        folder: Where the files lie that it names; None: here.

    Raises:
        ConfigurationError: It does not follow the schema; says where and how.
    """
    try:
        return Scenario.model_validate(document, context={"folder": folder or ""})
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'file'}: {each['msg']}"
            for each in error.errors()
        )
        raise ConfigurationError(f"{origin} is no scenario: {places}") from None
