"""The pool of decode workers: what it owns, and that nothing survives it."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from model_actor.media.clip import ClipDecoder
from model_actor.media.errors import ClipFailedError, WorkerLostError
from model_actor.media.limits import DecodeLimits
from model_actor.media.workers import DecodeWorkers
from scheduler.core.errors import InvariantError, LimitError
from tests.media import clips
from tests.media.clips import Recipe

pytestmark = pytest.mark.media


@pytest.fixture
async def workers() -> AsyncIterator[DecodeWorkers]:
    pool = DecodeWorkers(spare=1)
    await pool.start()
    yield pool
    await pool.close()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 (none of these has an event)
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def mappings() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("memfd:frames")


async def open_clip(pool: DecodeWorkers, path: Path) -> ClipDecoder:
    fd = os.open(path, os.O_RDONLY)
    try:
        return await pool.open_clip(fd, width=320, height=176, minimum_frames=33)
    finally:
        os.close(fd)


def pid_of(clip: ClipDecoder) -> int:
    assert clip._link is not None
    return clip._link.pid


async def test_close_leaves_no_process_behind(tmp_path: Path) -> None:
    pool = DecodeWorkers(spare=2)
    await pool.start()
    clip = await open_clip(pool, clips.make(tmp_path / "clip", Recipe()))
    pids = [pid_of(clip), *(link.pid for link in pool._idle)]
    assert len(pids) >= 2
    assert all(alive(pid) for pid in pids)
    await pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids), "ended and reaped"


async def test_descriptors_and_memory_are_given_back(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", Recipe())
    pool = DecodeWorkers(spare=1)
    await pool.start()
    await pool.close()
    before, mapped = psutil.Process().num_fds(), mappings()
    for _ in range(3):
        pool = DecodeWorkers(spare=1)
        await pool.start()
        clip = await open_clip(pool, path)
        (await clip.read(0, 33)).release()
        await clip.close()
        await pool.close()
    assert psutil.Process().num_fds() == before
    assert mappings() == mapped


async def test_a_used_worker_is_replaced_by_a_warm_one(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", Recipe())
    warm = workers._idle[0].pid
    clip = await open_clip(workers, path)
    assert pid_of(clip) == warm
    await until(lambda: len(workers._idle) == 1)
    assert workers._idle[0].pid != warm
    await clip.close()
    await until(lambda: not psutil.pid_exists(warm))


async def test_a_spare_that_dies_is_replaced(workers: DecodeWorkers) -> None:
    dead = workers._idle[0].pid
    os.kill(dead, signal.SIGKILL)
    await until(lambda: [link.pid for link in workers._idle] not in ([], [dead]))
    assert workers.crashes == 0, "nobody used it"


async def test_workers_that_cannot_start_are_reported() -> None:
    pool = DecodeWorkers(spare=1, limits=DecodeLimits(address_space_bytes=1 << 20))
    with pytest.raises(WorkerLostError):
        await pool.start()
    await pool.close()


async def test_more_than_allowed_are_refused(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", Recipe())
    pool = DecodeWorkers(spare=1, most=1)
    clip = await open_clip(pool, path)
    with pytest.raises(LimitError):
        await open_clip(pool, path)
    await clip.close()
    await (await open_clip(pool, path)).close()
    await pool.close()
    with pytest.raises(InvariantError):
        await open_clip(pool, path)


async def test_a_clip_survives_the_death_of_its_worker(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=100, b_frames=2))
    clip = await open_clip(workers, path)
    path.unlink()
    at = 0
    for count in (33, 24, 24, 19):
        block = await clip.read(at, count)
        assert [clips.number_of(frame) for frame in block.frames] == list(range(at, at + count))
        block.release()
        at += count
        if count == 24:
            os.kill(pid_of(clip), signal.SIGKILL)
    assert workers.crashes == 2


async def test_a_clip_whose_workers_keep_dying_fails(
    workers: DecodeWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = await open_clip(workers, clips.make(tmp_path / "clip", Recipe(frames=60)))
    lease = workers.lease

    async def doomed() -> object:
        link = await lease()
        os.kill(link.pid, signal.SIGKILL)
        return link

    monkeypatch.setattr(workers, "lease", doomed)
    os.kill(pid_of(clip), signal.SIGKILL)
    with pytest.raises(ClipFailedError):
        await clip.read(0, 33)
    monkeypatch.undo()
    block = await clip.read(0, 33)
    assert clips.number_of(block.frames[7]) == 7, "a later read may succeed"


async def test_a_window_that_takes_too_long_fails(tmp_path: Path) -> None:
    pool = DecodeWorkers(spare=0, limits=DecodeLimits(window_s=0.3))
    clip = await open_clip(pool, clips.make(tmp_path / "clip", Recipe()))
    stuck = pid_of(clip)
    os.kill(stuck, signal.SIGSTOP)
    with pytest.raises(ClipFailedError):
        await clip.read(0, 33)
    await pool.close()
    assert not psutil.pid_exists(stuck)


async def test_a_read_that_is_cancelled_disturbs_no_later_one(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    clip = await open_clip(workers, clips.make(tmp_path / "clip", Recipe(frames=100)))
    for _ in range(5):
        reading = asyncio.create_task(clip.read(0, 33))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    for first in (0, 33, 0):
        block = await clip.read(first, 33)
        found = [clips.number_of(frame) for frame in block.frames]
        assert found == list(range(first, first + 33))
        block.release()


async def test_closing_ends_a_read_under_way(workers: DecodeWorkers, tmp_path: Path) -> None:
    clip = await open_clip(workers, clips.make(tmp_path / "clip", Recipe()))
    os.kill(pid_of(clip), signal.SIGSTOP)
    reading = asyncio.create_task(clip.read(0, 33))
    await asyncio.sleep(0)
    await clip.close()
    with pytest.raises(ClipFailedError):
        await reading


async def test_opening_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", Recipe())
    pool = DecodeWorkers(spare=0)
    opening = asyncio.create_task(open_clip(pool, path))
    await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await pool.close()
    ours = psutil.Process().children()
    assert not [child for child in ours if "decode_worker" in " ".join(child.cmdline())]


async def test_workers_are_confined(
    workers: DecodeWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hush")
    clip = await open_clip(workers, clips.make(tmp_path / "clip", Recipe()))
    pool = DecodeWorkers(spare=0)
    fresh = await pool.lease()
    worker = psutil.Process(fresh.pid)
    assert "SOME_SECRET" not in worker.environ()
    assert worker.num_threads() == 1
    assert worker.rlimit(resource.RLIMIT_AS)[0] == DecodeLimits().address_space_bytes
    assert worker.rlimit(resource.RLIMIT_FSIZE) == (0, 0)
    assert worker.rlimit(resource.RLIMIT_CPU)[0] < 60
    status = Path(f"/proc/{fresh.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    pool.discard(fresh)
    await pool.close()
    assert psutil.Process(pid_of(clip)).num_threads() == 1, "decoding adds no threads"


async def test_workers_come_from_one_process_and_share_no_descriptors() -> None:
    pool = DecodeWorkers(spare=1)
    links = [await pool.lease() for _ in range(4)]
    assert len({psutil.Process(link.pid).ppid() for link in links}) == 1
    opened = [set(Path(f"/proc/{link.pid}/fd").iterdir()) for link in links]
    assert {len(each) for each in opened} == {5}, "the standard three and two sockets"
    for link in links:
        pool.discard(link)
    await pool.close()


async def test_workers_come_from_another_process_when_theirs_has_died(tmp_path: Path) -> None:
    pool = DecodeWorkers(spare=1)
    await pool.start()
    clip = await open_clip(pool, clips.make(tmp_path / "clip", Recipe()))
    os.kill(psutil.Process(pid_of(clip)).ppid(), signal.SIGKILL)
    block = await clip.read(0, 33)
    assert clips.number_of(block.frames[7]) == 7
    block.release()
    await pool.close()


def test_workers_die_with_their_owner(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, os, signal
        from model_actor.media.workers import DecodeWorkers

        async def main():
            pool = DecodeWorkers(spare=1)
            await pool.start()
            pid = pool._idle[0].pid
            os.kill(pid, signal.SIGSTOP)  # Does not notice that its socket closes.
            print(pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """)
    )
    owner = subprocess.run(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert owner.returncode == -signal.SIGKILL
    pid = int(owner.stdout.split()[-1])
    psutil.wait_procs(
        [psutil.Process(each) for each in [pid] if psutil.pid_exists(each)], timeout=10
    )
    assert not alive(pid)
