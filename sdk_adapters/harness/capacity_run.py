"""Runs a search for a capacity against a service, and keeps what it found out so far."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sana_gateway import Client, GatewayError
from scheduler.scenario.scenario import Scenario
from sdk_adapters.harness.capacity import Capacity, Observe, Trial, Wanted, search
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.prediction import predicted
from sdk_adapters.harness.report.model import LoadReport, Verdict
from sdk_adapters.harness.running import Setting, View, measure

KEPT: Final = "capacity-trials.json"
"""Name of the file with the trials of a search."""
EMPTY_S: Final = 20.0
"""How long the pool may take to be empty again after a trial."""
_LOOK_S: Final = 0.2


async def find(
    wanted: Wanted,
    setting: Setting,
    folder: Path,
    *,
    observe: Observe,
    guess: int | None = None,
    fresh: bool = False,
    view: View | None = None,
    until: asyncio.Event | None = None,
) -> Capacity:
    """Searches for the most sessions that a service can have.

    Args:
        wanted: What to search for.
        setting: On what.
        folder: Where the trials are kept, so that a search that was ended goes on.
        observe: Told of each trial as it ends.
        guess: Where to begin; None: where the simulator says, which costs no trial.
        fresh: Whether to forget the trials that were kept.
        view: Told of each run as it goes.
        until: Ends the search early.

    Raises:
        GatewayError: The service cannot be reached.
        GeneratorError: The generator failed.
    """
    prediction = await predicted(wanted.scenario)
    begin = guess or prediction.sessions or wanted.rules.guess
    wanted = replace(
        wanted, rules=replace(wanted.rules, guess=min(max(1, begin), wanted.rules.most))
    )
    kept = Kept(folder / KEPT, wanted.key(setting.service.config))
    known = [] if fresh else await asyncio.to_thread(kept.read)
    emptied = Emptied(setting.target)

    async def run(scenario: Scenario) -> LoadReport:
        await emptied.wait()
        return await measure(scenario, setting, view=view, until=until)

    def tried(trial: Trial) -> None:
        kept.add(trial)
        observe(trial)

    found, trials = await search(wanted, run, observe=tried, known=known, until=until)
    return Capacity(
        scenario=wanted.scenario.name,
        found=found,
        rules=wanted.rules,
        trials=trials,
        prediction=prediction,
        service=setting.service.config,
    )


class Kept:
    """A file with the trials of a search, so that one that was ended goes on where it was."""

    def __init__(self, path: Path, key: str) -> None:
        """Opens nothing yet.

        Args:
            path: Of the file; replaced with every trial.
            key: Of `Wanted.key`: trials of another search are passed over.
        """
        self._path = path
        self._key = key
        self.trials: list[Trial] = []
        """All so far."""

    def read(self) -> Sequence[Trial]:
        """Reads the trials that were kept of the same search; none if there is no such file."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(self._path.read_text("utf-8"))
            if document["key"] == self._key:
                self.trials = [_trial(each) for each in document["trials"]]
        return tuple(self.trials)

    def add(self, trial: Trial) -> None:
        """Keeps a trial, unless it says nothing."""
        if not trial.counts:
            return
        self.trials.append(trial)
        document = {"key": self._key, "trials": [each.document() for each in self.trials]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        draft.replace(self._path)


def _trial(document: Mapping[str, Any]) -> Trial:
    known = {name: document[name] for name in Trial.__dataclass_fields__}
    known["missed"] = tuple(Verdict.model_validate(each) for each in document["missed"])
    return replace(Trial(**known), invalid=tuple(document["invalid"]))


class Emptied:
    """Waits until the pool holds no more sessions than before the first trial.

    A trial begins when the sessions of the last are gone, on a service that tells; else after
    a while.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._usual: int | None = None

    async def wait(self) -> None:
        """Waits, for `EMPTY_S` at most."""
        until = time.monotonic() + EMPTY_S
        async with self._target.client() as client:
            while time.monotonic() < until:
                sessions = await _sessions_of(client)
                if self._usual is None:
                    self._usual = sessions
                if sessions is not None and self._usual is not None and sessions <= self._usual:
                    return
                await asyncio.sleep(_LOOK_S if sessions is not None else EMPTY_S / 4)
                if sessions is None:
                    return


async def _sessions_of(client: Client) -> int | None:
    """Returns how many sessions the pool knows; None: it does not tell us."""
    try:
        return len((await client.describe_pool()).sessions)
    except GatewayError:
        return None
