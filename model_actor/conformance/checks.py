"""Checks of what the interface of a model promises, on any machine.

Each check opens sessions of its own and closes them, and raises `ConformanceError`, which
says what was expected and what came. They take the place of the engine: all calls come
from the calling thread, in the engine's order.
"""

from __future__ import annotations

import re
from contextlib import closing

import numpy as np

from model_actor.conformance.runs import OTHER_PROMPT, PROMPT, Run, result, run_stages
from model_actor.plugin import Frames, Model, SessionOptions, WindowTask
from scheduler.core.commands import NAMES
from scheduler.core.prompts import Share

STAGE_ORDER = ("encode", "generate", "decode", "commit")
"""The names that stages may have, in their order."""
JUMP = 7
"""Frames that are left out before a window."""


class ConformanceError(AssertionError):
    """A model does not keep to its interface."""


def check_geometry(model: Model) -> None:
    """What the model declares is complete and makes sense."""
    info = model.info
    _expect(isinstance(model, Model), "the model has all methods of the interface")
    _expect(
        re.fullmatch(r"[a-z0-9][a-z0-9./-]*", info.name) is not None,
        f"the name {info.name!r} is made of small letters, digits, '-', '.' and '/'",
    )
    _expect(info.summary.endswith("."), "the summary is a sentence")
    _expect(
        info.width % 2 == 0 and info.height % 2 == 0 and min(info.width, info.height) > 0,
        f"width and height are even, for I420: {info.width} x {info.height}",
    )
    _expect(info.frame_rate > 0, "the frame rate is positive")
    names = [stage.name for stage in info.stages]
    _expect(
        names == [name for name in STAGE_ORDER if name in names] and "generate" in names,
        f"stages are out of {', '.join(STAGE_ORDER)}, in this order, with generate: {names}",
    )
    hidden = [stage.name for stage in info.stages if stage.off_latency_path]
    _expect(
        hidden == names[len(names) - len(hidden) :] and len(hidden) < len(names),
        f"stages off the latency path come last, and not all are: {hidden}",
    )
    geometry = info.geometry
    _expect(
        0 < geometry.chunk <= geometry.window <= geometry.first_window,
        f"chunk <= window <= first window: {geometry}",
    )
    _expect(
        0 <= geometry.lag <= min(geometry.chunk, geometry.first_window - 1),
        f"no more than a chunk is owed from one window to the next: {geometry}",
    )
    _expect(info.max_batch >= 1 and info.resident_slots >= 1, "at least one session fits")
    fewer = info.degraded_steps
    _expect(
        all(each.steps > 0 and 0 < each.chunk_ms < info.chunk_ms for each in fewer)
        and len({each.steps for each in fewer}) == len(fewer),
        f"fewer steps are numbers of their own, and take less than {info.chunk_ms} ms: {fewer}",
    )
    _expect(info.weights_bytes >= 0 and info.session_bytes >= 0, "memory is not negative")
    unknown = sorted(set(info.commands) - set(NAMES.values()))
    _expect(
        not unknown and len(set(info.commands)) == len(info.commands),
        f"commands are some of {', '.join(NAMES.values())}, each once; unknown: {unknown}",
    )
    rates = info.degraded_rates
    _expect(
        all(0 < rate < 1 for rate in rates) and list(rates) == sorted(set(rates), reverse=True),
        f"degraded rates lie between 0 and 1, highest first: {rates}",
    )


def check_results(model: Model) -> None:
    """Results are as many frames as they should be, bytes, of the source's shape, and not it.

    At the end of a clip, in its first window or a later one, nothing is owed any more.
    """
    for windows in (1, 3):
        _check_run(model, windows)


def _check_run(model: Model, windows: int) -> None:
    geometry = model.info.geometry
    with closing(Run(model)) as run:
        for index in range(windows):
            task = run.task()
            task.last = last = index == windows - 1
            before = task.source.copy()
            outcome = _after_latency_path(model, task)
            run.index += 1
            _expect(outcome.dtype == np.uint8, f"frames are uint8, not {outcome.dtype}")
            shape = (geometry.answered(index, last=last), *task.source.shape[1:])
            _expect(
                outcome.shape == shape,
                f"the result of window {index} has the shape {shape}, not {outcome.shape}",
            )
            _expect(np.array_equal(before, task.source), "the source is not written to")
            _expect(
                not np.shares_memory(outcome, task.source),
                "the result does not live in the source, whose memory is used again",
            )
            _expect(not np.array_equal(outcome, task.source), "the result differs from the source")


def check_determinism(model: Model) -> None:
    """The same source, seed and prompt give the same frames: in a new session and a new run."""
    with closing(Run(model)) as first, closing(Run(model)) as second:
        expected = first.advance(2)
        _same(expected, second.advance(2), "two sessions with equal source, seed and prompt")
        first.begin_again()
        with closing(Run(model, number=first.number)) as fresh:
            _same(fresh.advance(2), first.advance(2), "a run that is begun again")


def check_sessions_are_independent(model: Model) -> None:
    """What one session is given does not show in another."""
    with closing(Run(model)) as alone:
        expected = alone.advance(3)
    with closing(Run(model)) as run, closing(Run(model, "neighbour")) as neighbour:
        neighbour.prompt, neighbour.seed = OTHER_PROMPT, 11
        got = []
        for _ in expected:
            neighbour.advance()
            got += run.advance()
        _same(expected, got, "a session beside a busy neighbour")


def check_begins_anew(model: Model) -> None:
    """Window 0 is made from source, prompt and seed alone, also in the middle of a run.

    So goes on a session whose state was lost.
    """
    with closing(Run(model)) as run:
        run.advance(2)
        run.begin_anew()
        with closing(Run(model, offset=run.offset)) as fresh:
            _same(fresh.advance(2), run.advance(2), "a session that begins anew within its run")


def check_batch_equals_alone(model: Model) -> None:
    """A place in a batch gives the same each time; other places and sizes, the same picture.

    Frames must be equal bit by bit where the batch was as large and the place the same, and
    otherwise equal or alike to 45 dB: products of matrices sum their last rows in another order.
    """
    size = model.info.max_batch
    if size == 1:
        return
    expected = _batched(model, 1, 0)
    places = [_batched(model, size, place) for place in (0, size - 1)]
    for given in places:
        worst = min(_psnr(a, b) for a, b in zip(expected, given, strict=True))
        _expect(worst >= 45, f"alone and in a batch of {size} are alike to 45 dB, not {worst:.1f}")
    restored = _batched(model, size, 0, restored=True)
    _same(places[0], restored, "a restored session at equal batch size")


def check_fewer_steps(model: Model) -> None:
    """Any window may be made with fewer steps, as declared, and the next one with all again.

    They are taken from the task alone, so a restored session goes on bit by bit.
    """
    for fewer in model.info.degraded_steps:
        steps = (0, fewer.steps, 0, fewer.steps)
        with closing(Run(model)) as run, closing(Run(model)) as again:
            expected = [_with_steps(run, each) for each in steps]
            _same(expected[:2], [_with_steps(again, each) for each in steps[:2]], "fewer steps")
            with closing(again.restored(model.snapshot(again.session))) as restored:
                rest = [_with_steps(restored, each) for each in steps[2:]]
                _same(expected[2:], rest, "a session restored after fewer steps")
        with closing(Run(model)) as plain:
            _expect(
                not np.array_equal(plain.advance(2)[1], expected[1]),
                f"a picture made with {fewer.steps} steps is another one than with all",
            )


def check_transitions(model: Model) -> None:
    """Any window may be made with a mixture of prompts, where that is declared.

    It is taken from the task alone, so a restored session goes on bit by bit, and a share makes
    a difference.
    """
    if not model.info.prompt_transitions:
        return
    half, most = ((Share(PROMPT, share),) for share in (0.5, 0.8))
    mixtures = ((), half, (), most)
    with closing(Run(model, prompt=OTHER_PROMPT)) as run:
        again = Run(model, prompt=OTHER_PROMPT)
        with closing(again):
            expected = [_mixed(run, each) for each in mixtures]
            _same(expected[:2], [_mixed(again, each) for each in mixtures[:2]], "a mixture")
            with closing(again.restored(model.snapshot(again.session))) as restored:
                rest = [_mixed(restored, each) for each in mixtures[2:]]
                _same(expected[2:], rest, "a session restored in the middle of a transition")
    for other in ((), most):
        with closing(Run(model, prompt=OTHER_PROMPT)) as plain:
            _mixed(plain, ())
            _expect(
                not np.array_equal(_mixed(plain, other), expected[1]),
                "a picture made half with another prompt is one of its own",
            )


def check_snapshot(model: Model) -> None:
    """A session restored from a snapshot goes on bit by bit as the original does.

    In the middle of a run, before its first window, and where frames of a camera were left
    out. Taking a snapshot leaves the session alone.
    """
    with closing(Run(model)) as untouched:
        expected = untouched.advance(4)
    with closing(Run(model)) as run:
        fresh = model.snapshot(run.session)
        with closing(run.restored(fresh)) as copy:
            _same(expected[:1], copy.advance(), "a session restored before its first window")
        run.advance(2)
        snapshot = model.snapshot(run.session)
        _expect(
            isinstance(snapshot, bytes) and isinstance(fresh, bytes), "a snapshot is made of bytes"
        )
        with closing(run.restored(snapshot)) as copy:
            _expect(model.snapshot(copy.session) == snapshot, "a restored session is the same")
            _same(expected[2:], run.advance(2), "a session of which a snapshot was taken")
            _same(expected[2:], copy.advance(2), "a restored session")
        run.offset += JUMP
        with closing(run.restored(model.snapshot(run.session))) as copy:
            _same(run.advance(), copy.advance(), "a restored session before a jump")
        with closing(run.restored(model.snapshot(run.session))) as copy:
            _same(run.advance(), copy.advance(), "a restored session after a jump")


def check_fork(model: Model) -> None:
    """One snapshot may be restored many times, under other names.

    Copies are alike bit by bit while they are given the same, and go their own ways then.
    """
    with closing(Run(model)) as run:
        run.advance(2)
        snapshot = model.snapshot(run.session)
        with (
            closing(run.restored(snapshot, "fork-1")) as first,
            closing(run.restored(snapshot, "fork-2")) as second,
        ):
            expected = run.advance()
            _same(expected, first.advance(), "the first session restored from one snapshot")
            _same(expected, second.advance(), "the second session restored from one snapshot")
            second.prompt, second.seed = OTHER_PROMPT, 11
            second.advance()
            _same(run.advance(), first.advance(), "a copy beside one with another prompt")


def check_foreign_snapshot(model: Model) -> None:
    """What is no snapshot of this model is refused with an exception."""
    with closing(Run(model)) as run:
        run.advance()
        snapshot = model.snapshot(run.session)
    for foreign in (b"", b"no snapshot of any model", snapshot[: len(snapshot) // 2]):
        if foreign == snapshot:
            continue
        try:
            model.restore(SessionOptions("conformance"), foreign)
        except Exception:  # noqa: S112 (any failure will do)
            continue
        raise ConformanceError(
            f"expected: {len(foreign)} bytes that are no snapshot are refused with an exception"
        )


def check_failure_is_atomic(model: Model) -> None:
    """After a window that fails, the session is as before: it can be tried again.

    The failure is a source of the wrong shape, at the last window of a full batch.
    """
    with closing(Run(model)) as run:
        run.advance()
        expected = run.advance()
    neighbours = model.info.max_batch - 1
    runs = [Run(model) for _ in range(neighbours + 1)]
    try:
        for each in runs:
            each.advance()
        before = [model.snapshot(each.session) for each in runs]
        tasks = [each.task() for each in runs]
        tasks[-1].source = np.zeros((3, 5, 7), np.uint8)
        try:
            run_stages(model, tasks)
        except Exception:  # noqa: S110 (any failure will do)
            pass
        else:
            raise ConformanceError("a source of shape (3, 5, 7) is refused with an exception")
        after = [model.snapshot(each.session) for each in runs]
        _expect(before == after, "an exception leaves every session as it was before the window")
        _same(expected, runs[-1].advance(), "a window that is tried again")
    finally:
        for each in runs:
            each.close()


def _expect(holds: bool, rule: str) -> None:
    if not holds:
        raise ConformanceError(f"expected: {rule}")


def _same(expected: list[Frames], got: list[Frames], who: str) -> None:
    for window, (a, b) in enumerate(zip(expected, got, strict=True)):
        _expect(np.array_equal(a, b), f"{who}: equal frames, but window {window} differs")


def _with_steps(run: Run, steps: int) -> Frames:
    run.steps = steps
    return run.advance()[0]


def _mixed(run: Run, earlier: tuple[Share, ...]) -> Frames:
    run.earlier = earlier
    return run.advance()[0]


def _psnr(a: Frames, b: Frames) -> float:
    """Returns the likeness of the least alike frame in dB; 99 for equal ones."""
    if np.array_equal(a, b):
        return 99.0
    difference = (a.astype(np.float64) - b.astype(np.float64)) ** 2
    error = float(difference.reshape(len(a), -1).mean(axis=1).max())
    return float(10 * np.log10(255**2 / error))


def _after_latency_path(model: Model, task: WindowTask) -> Frames:
    """Runs all stages; returns what was there when the last on the latency path had ended."""
    handed_out: Frames | None = None
    for stage in model.info.stages:
        if stage.off_latency_path and handed_out is None:
            handed_out = result(task).copy()
        model.stage(stage.name, [task])
    outcome = result(task)
    _expect(
        handed_out is None or np.array_equal(handed_out, outcome),
        "stages off the latency path leave the frames alone, which are on their way by then",
    )
    return outcome


def _batched(model: Model, size: int, place: int, *, restored: bool = False) -> list[Frames]:
    """Returns two windows of one session at a place in a batch of others.

    Args:
        model: The model.
        size: How many sessions are in the batch.
        place: Which of them is the one.
        restored: Whether it is restored from a snapshot between the two.
    """
    runs = [Run(model, f"other-{number}", seed=100 + number) for number in range(size)]
    runs[place].close()
    runs[place] = Run(model)
    frames = []
    for _ in range(2):
        tasks = run_stages(model, [run.task() for run in runs])
        frames.append(result(tasks[place]))
        for run in runs:
            run.index += 1
        if restored:
            former = runs[place]
            runs[place] = former.restored(model.snapshot(former.session))
            former.close()
    for run in runs:
        run.close()
    return frames
