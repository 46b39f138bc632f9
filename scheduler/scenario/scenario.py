"""A scenario: who comes, what there is to serve them, how they reach it, what must hold.

The parts know nothing of each other, so that the same workload can be put on a pool that is
simulated and on one that is real.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.durations import Duration, Span
from scheduler.scenario.load import LoadSpec, Slo
from scheduler.scenario.pool import PoolSpec, Targets
from scheduler.scenario.record import Name, Record
from scheduler.scenario.workload import Workload

LONGEST_S: Final = 31 * 86_400.0
"""Of a run: a month."""


class Scenario(Record):
    """One run."""

    name: Name
    summary: str = ""
    """One sentence for people."""
    duration: Annotated[Span, Field(le=LONGEST_S)] = 86_400.0
    """What is measured."""
    warm_up: Annotated[Duration, Field(le=LONGEST_S)] = 1800.0
    """Before that, and not measured."""
    seed: int = Field(default=1, ge=0)
    workload: Workload
    pool: PoolSpec | None = None
    """What the simulator needs: GPUs that do not exist."""
    targets: Targets = Targets()
    """What must hold in the simulator."""
    load: LoadSpec = LoadSpec()
    """How the load harness brings the sessions to a service."""
    slo: Slo = Field(default_factory=dict)
    """What must hold there."""

    @property
    def spec(self) -> PoolSpec:
        """The pool, for those who cannot do without.

        Raises:
            ConfigurationError: The scenario does not have one.
        """
        if self.pool is None:
            raise ConfigurationError(
                f"the scenario {self.name} has no `pool`: it can be put on a service "
                "(sana-gateway load), not simulated"
            )
        return self.pool


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
            f"{'.'.join(str(part) for part in each['loc']) or 'file'}: "
            + ("there is no such key" if each["type"] == "extra_forbidden" else each["msg"])
            for each in error.errors()
        )
        raise ConfigurationError(f"{origin} is no scenario: {places}") from None


def schema() -> str:
    """Returns the JSON schema of scenario files, as it is printed and kept in docs/."""
    return json.dumps(Scenario.model_json_schema(), indent=2) + "\n"
