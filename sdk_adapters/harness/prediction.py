"""Asks the simulator how many sessions the scenario's pool can have.

The simulator is another part of the service and not imported here: it is asked as anybody
asks it, by its command, with the very scenario that is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from scheduler.scenario.scenario import Scenario
from sdk_adapters.harness.capacity import Prediction

PATIENCE_S: Final = 300.0
"""How long the simulator may take."""
_LAST_WORDS: Final = 300


async def predicted(scenario: Scenario) -> Prediction:
    """Returns what the simulator says of a scenario's pool.

    Args:
        scenario: What is measured, with the pool that it is measured on.
    """
    if scenario.pool is None:
        return Prediction(None, "the scenario has no `pool`")
    with tempfile.TemporaryDirectory(prefix="sana-load-") as name:
        asked, answer = Path(name) / "scenario.yaml", Path(name) / "capacity.json"
        await asyncio.to_thread(_write, asked, scenario)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.cli", "simulate", str(asked), "--capacity", "--json", str(answer)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                said, _ = await process.communicate()
        except TimeoutError:
            return Prediction(None, f"the simulator took more than {PATIENCE_S:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = said.decode(errors="replace").strip()[-_LAST_WORDS:]
            return Prediction(None, f"the simulator refused: {words}")
        return Prediction(await asyncio.to_thread(_read, answer))


def _write(path: Path, scenario: Scenario) -> None:
    # JSON is YAML. The file lies elsewhere, so the paths that it names must be whole.
    path.write_text(json.dumps(_plain(scenario.model_dump()), indent=1), "utf-8")


def _read(path: Path) -> int:
    return int(json.loads(path.read_text("utf-8"))["capacities"][0]["sessions"])


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a scenario
    """Returns a value as JSON has it, without what is not set."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value.absolute()) if isinstance(value, Path) else value
