"""How the end-to-end tests are spread over workers: files that share a service go to one worker,
one after the other, and the longest begin first.

What stands here is about time alone: a file that is missing, or takes longer than is said, costs
some of it and nothing else.
"""

from __future__ import annotations

from typing import Any, Final

from xdist.scheduler.loadscope import LoadScopeScheduling

FOLDER: Final = "tests/e2e/"

TOGETHER: Final = {
    # Two actors under Ray and two gateways: tests/e2e/pool/conftest.py.
    "split": ("pool/test_failures.py", "pool/test_gateways.py", "pool/test_moves.py"),
    # The demo's service under Ray.
    "demo": ("reactor/test_reactor_sdk.py", "test_runs.py"),
    # A service and a browser with a camera of its own: tests/e2e/walkthrough/conftest.py.
    "walkthrough": (
        "walkthrough/test_accessibility.py",
        "walkthrough/test_console.py",
        "walkthrough/test_copied_code.py",
        "walkthrough/test_guarded.py",
        "walkthrough/test_pictures.py",
        "walkthrough/test_story.py",
    ),
    # Pictures of the size that users see, and the page that shows them.
    "full size": (
        "reactor/js/test_js_example.py",
        "reactor/js/test_js_refusals.py",
        "reactor/js/test_js_sdk.py",
        "reactor/js/test_js_wire.py",
        "reactor/test_checklist_media.py",
        "test_slow_reader.py",
        "test_viewer.py",
    ),
}
"""Files that share what takes long to start."""

SECONDS: Final = {
    "full size": 176,
    "demo": 135,
    "split": 110,
    "test_sana_streaming.py": 80,
    "test_front_door.py": 74,
    "test_load_generator.py": 62,
    "typescript/test_typescript.py": 56,
    "walkthrough": 60,
    "test_roles.py": 55,
    "test_load_command.py": 54,
    "test_python_client.py": 54,
    "test_cli.py": 50,
    "pool/test_models.py": 44,
    "reactor/test_checklist_channels.py": 38,
    "pool/test_parking.py": 38,
    "reactor/test_clips.py": 37,
    "test_load_report.py": 35,
    "pool/test_degrade.py": 32,
    "whip/test_whip.py": 32,
    "pool/test_batches.py": 30,
    "reactor/test_tokens.py": 30,
    "isolation/test_isolation.py": 28,
    "test_clips.py": 22,
    "pool/test_storing.py": 20,
    "test_live.py": 20,
    "pool/test_forks.py": 18,
    "reactor/test_hosted_faults.py": 17,
    "reactor/test_checklist.py": 17,
}
"""What units take beside others; the rest take less."""

_UNITS: Final = {file: unit for unit, files in TOGETHER.items() for file in files}


def unit_of(nodeid: str) -> str:
    """Returns what a test is one of: its file, or the group of its file."""
    file = nodeid.partition("::")[0].removeprefix(FOLDER)
    return _UNITS.get(file, file)


def rank(nodeid: str) -> tuple[float, str]:
    """Sorts tests: units that take longest first; within a unit tests stay as they were."""
    unit = unit_of(nodeid)
    return -SECONDS.get(unit, 0), unit


class Spread(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole units to workers, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def scheduler(config: Any, log: Any) -> Spread | None:
    """Returns who hands out the tests of a run that keeps files together, of no other."""
    return Spread(config, log) if config.getoption("dist") == "loadfile" else None
