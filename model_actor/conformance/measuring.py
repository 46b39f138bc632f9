"""What a model declares of memory and time, against what is measured.

Both depend on the machine: they are for where the model is to be served, and for benches. A
test suite calls them with a clock of its own, or leaves them out.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from model_actor.conformance.checks import ConformanceError
from model_actor.conformance.runs import Run, run_stages
from model_actor.plugin import Model

LONGEST: Final = 1.5
"""Times the declared time that a window may take: beyond it, everybody is late."""
SHORTEST: Final = 0.25
"""Times the declared time that it may take at least: below it, places stay empty."""
UNMEASURED: Final = 0.05
"""Share of a window's play-out time below which a difference is no fault: compute is booked
against that time, so that a window of a few milliseconds may be declared to take some more."""
WINDOWS: Final = 5
"""Windows that are measured; the fastest counts, so that what else the machine does counts not."""
MOST_MEMORY: Final = 1.25
"""Times the declared memory that may be used."""
UNMEASURED_BYTES: Final = 8 << 20
"""Memory beyond that which is no fault: allocators keep some for later."""
SESSIONS: Final = 4
"""Sessions that are opened to measure what one takes."""

_STATUS: Final = Path("/proc/self/status")
_ANONYMOUS: Final = ("RssAnon:", "VmSwap:")
"""Memory of the process that no file stands behind: neither libraries nor mapped weights."""


class UnmeasurableError(Exception):
    """This machine does not tell what is asked of it."""


def used_bytes() -> int | None:
    """Returns the memory in use: of the GPU where torch has some of it, else of the process.

    Returns:
        Bytes; None where the machine does not tell.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        on_gpus = sum(
            torch.cuda.memory_allocated(number) for number in range(torch.cuda.device_count())
        )
        if on_gpus:
            return int(on_gpus)
    with suppress(OSError, AttributeError):
        # What was freed is given back first, so that it is not taken for something kept.
        ctypes.CDLL(None).malloc_trim(0)
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in lines if line.startswith(_ANONYMOUS)]
    return sum(sizes) * 1024 if sizes else None


def check_memory(
    model: Model, another: Callable[[], Model], *, used: Callable[[], int | None] = used_bytes
) -> str:
    """Neither the model nor a session takes more memory than is declared.

    Weights are measured as what one more copy of the model takes, so that libraries that were
    loaded with the first do not count; sessions as what some more of them take after two
    windows each. A snapshot holds all that a session is, so it is no larger than one either.

    Args:
        model: The model, loaded.
        another: Makes another one, configured the same, not loaded.
        used: Tells the memory in use.

    Returns:
        What was measured.

    Raises:
        ConformanceError: More is used than is declared.
        UnmeasurableError: The machine does not tell.
    """
    info = model.info
    snapshot = _settle(model)
    # Where nothing is declared, the service books what snapshots take.
    session_bytes = info.session_bytes or snapshot
    _no_more("a snapshot", "session_bytes", snapshot, session_bytes)
    before = _read(used)
    copy = another()
    copy.load()
    weights = _read(used) - before
    del copy
    _no_more("the loaded model", "weights_bytes", weights, info.weights_bytes)
    count = min(SESSIONS, info.resident_slots)
    with ExitStack() as stack:
        before = _read(used)
        for number in range(count):
            run = stack.enter_context(closing(Run(model, f"memory-{number}")))
            for _ in range(2):
                run.advance()
        each = (_read(used) - before) // count
    _no_more("a session", "session_bytes", each, session_bytes, count)
    return (
        f"model {_mb(weights)} of {_mb(info.weights_bytes)} declared, "
        f"session {_mb(max(each, snapshot))} of {_mb(session_bytes)}"
    )


def check_time(model: Model, *, clock: Callable[[], float] = time.perf_counter) -> str:
    """A steady window takes about the time that is declared, with all steps and with fewer.

    Args:
        model: The model, loaded.
        clock: Tells the time in seconds.

    Returns:
        What was measured.

    Raises:
        ConformanceError: It takes over `LONGEST` times the declared time, or less than
            `SHORTEST` times.
    """
    info = model.info
    costs = {0: info.chunk_ms} | {fewer.steps: fewer.chunk_ms for fewer in info.degraded_steps}
    no_fault_ms = UNMEASURED * info.geometry.window / info.frame_rate * 1000
    told = []
    for steps, declared in costs.items():
        what = f"one with {steps} steps" if steps else "a window"
        measured = _fastest_ms(model, steps, clock)
        told.append(f"{what} takes {measured:.1f} ms of {declared:.1f} declared")
        is_near = abs(measured - declared) <= no_fault_ms
        if not is_near and not declared * SHORTEST <= measured <= declared * LONGEST:
            raise ConformanceError(
                f"expected: {what} takes {SHORTEST} to {LONGEST} times the declared "
                f"{declared:.1f} ms on this machine; it takes {measured:.1f} ms"
            )
    return "; ".join(told)


def _settle(model: Model) -> int:
    """Has a model make what it keeps for all sessions; returns the size of a snapshot."""
    with closing(Run(model)) as run:
        run.advance(2)
        return len(model.snapshot(run.session))


def _read(used: Callable[[], int | None]) -> int:
    found = used()
    if found is None:
        raise UnmeasurableError("this machine does not tell how much memory is used")
    return found


def _no_more(what: str, field: str, measured: int, declared: int, count: int = 1) -> None:
    if measured > declared * MOST_MEMORY + UNMEASURED_BYTES / count:
        raise ConformanceError(
            f"expected: {what} takes at most {MOST_MEMORY} times the {field} that are declared, "
            f"{_mb(declared)}; it takes {_mb(measured)}: declare {field}={measured:_}"
        )


def _fastest_ms(model: Model, steps: int, clock: Callable[[], float]) -> float:
    times = []
    with closing(Run(model)) as run:
        run.advance()
        run.steps = steps
        for _ in range(WINDOWS):
            task = run.task()
            began = clock()
            run_stages(model, [task])
            times.append((clock() - began) * 1000)
            run.index += 1
    return min(times)


def _mb(size: int) -> str:
    return f"{max(0, size) / 1e6:.1f} MB"
