"""Large states: what never changes is written once, and two files take turns for the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from model_actor.engine.services import ModelStates
from model_actor.plugin import ModelInfo, SessionOptions, SnapshotParts, Stage, WindowTask
from model_actor.snapshots import host_tier, storage_tier
from model_actor.snapshots.constant_parts import GRACE_S
from model_actor.snapshots.host_tier import TORN_S, HostTier
from model_actor.snapshots.kept import KeptState, Point, parse, pieces, whole
from model_actor.snapshots.states import KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from scheduler.kept_names import key_of
from scheduler.process.storage import FilesystemStorage
from tests.required import ROOT

pytestmark = pytest.mark.unit

KEY, COPY = key_of("s1"), key_of("copy")


class Part:
    """Bytes in pieces of seven, and how often they were read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.reads = data, len(data), 0

    def pieces(self) -> Iterator[memoryview]:
        self.reads += 1
        for at in range(0, self.size, 7):
            yield memoryview(self.data)[at : at + 7]


T = TypeVar("T")


class Model:
    """As far as its states go."""

    info = ModelInfo("plain", "A model.", (Stage("all", 1.0),))

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> object: ...

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None: ...

    def snapshot(self, session: object) -> bytes:
        return b"plain"

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        return snapshot

    def close(self, session: object) -> None: ...


SINK = b"of the first window" * 9


def parted(changing: bytes, windows: int, *, constant: dict[str, Part] | None = None) -> KeptState:
    parts = {"sink1": Part(SINK)} if constant is None else constant
    return KeptState(b"control", SnapshotParts(Part(changing), parts), 1, windows)


def point(windows: int, key: str = KEY, epoch: int = 1) -> Point:
    return Point(key, epoch, 1, windows)


@pytest.fixture(autouse=True)
def small_spares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_tier, "SPARE_BYTES", 1)


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[HostTier]:
    tier = HostTier(tmp_path / "host", 0)
    yield tier
    tier.close()


def files(tmp_path: Path, ending: str = "") -> list[Path]:
    return sorted(path for path in (tmp_path / "host").iterdir() if path.name.endswith(ending))


def test_a_state_of_parts_is_read_back_whole(tier: HostTier) -> None:
    assert tier.write(point(4), parted(b"changing" * 5, 4))
    state = tier.read(point(4))
    assert state is not None
    assert state.model == b"changing" * 5 + SINK
    alone = tier.read(point(4), model=False)
    assert alone is not None
    assert (alone.control, alone.model) == (b"control", None)


def test_a_picture_and_no_changing_bytes_survive_too(tier: HostTier) -> None:
    parts = SnapshotParts(Part(b""), {"a": Part(b"one"), "b": Part(b"two")})
    assert tier.write(point(4), KeptState(b"c", parts, 1, 4, b"picture"))
    assert tier.read(point(4)) == KeptState(b"c", memoryview(b"onetwo"), 1, 4, b"picture")


def test_what_does_not_change_is_written_once(tier: HostTier, tmp_path: Path) -> None:
    sink = Part(SINK)
    for windows in (4, 8, 12):
        assert tier.write(point(windows), parted(b"%d" % windows, windows, constant={"s": sink}))
    assert sink.reads == 1
    assert len(files(tmp_path, ".part")) == 1
    kept = [tier.read(point(windows)) for windows in (4, 8, 12)]
    assert [state.model for state in kept if state] == [b"4" + SINK, b"8" + SINK, b"12" + SINK]


def test_a_part_that_is_torn_is_written_again(tier: HostTier, tmp_path: Path) -> None:
    sink = Part(SINK)
    assert tier.write(point(4), parted(b"a", 4, constant={"s": sink}))
    (lies,) = files(tmp_path, ".part")
    lies.write_bytes(lies.read_bytes()[:-1])
    assert tier.read(point(4)) is None, "half a state is none"
    assert tier.write(point(8), parted(b"b", 8, constant={"s": sink}))
    assert sink.reads == 2
    assert tier.read(point(8)) is not None


@pytest.mark.parametrize("spoil", ["a bit of the part", "the part", "a bit of the rest"])
def test_a_state_that_is_damaged_anywhere_is_none(
    tier: HostTier, tmp_path: Path, spoil: str
) -> None:
    assert tier.write(point(4), parted(b"changing", 4))
    path = files(tmp_path, ".4" if spoil.endswith("rest") else ".part")[0]
    if spoil == "the part":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert tier.read(point(4)) is None


def test_two_files_take_turns(tier: HostTier, tmp_path: Path) -> None:
    """Memory is neither given back nor asked for again, whatever the lengths."""
    inodes = set()
    for windows, length in ((4, 50), (8, 70), (12, 40), (16, 90), (20, 30), (24, 50)):
        data = bytes([windows]) * length
        assert tier.write(point(windows), parted(data, windows))
        state = tier.read(point(windows))
        assert state is not None
        assert state.model == data + SINK
        inodes.add((tmp_path / "host" / f"{KEY}.1.1.{windows}").stat().st_ino)
        tier.drop([each for each in tier.points(KEY) if each.windows < windows], reuse=True)
    assert len(inodes) == 2
    tier.drop(tier.points(KEY))
    assert files(tmp_path) == [], "the spare and the part go with the last state"


def test_what_a_copy_begins_from_is_not_written_over(tier: HostTier) -> None:
    assert tier.write(point(4), parted(b"four", 4))
    assert tier.link(point(4), COPY, 0)
    tier.drop([point(4)], reuse=True)
    assert tier.write(point(8), parted(b"eight", 8))
    tier.drop([point(8)], reuse=True)
    assert tier.write(point(12), parted(b"twelve", 12))
    kept = tier.read(point(4, COPY, 0))
    assert kept is not None
    assert kept.model == b"four" + SINK


def test_a_copy_that_is_made_meanwhile_is_not_written_over(tier: HostTier, tmp_path: Path) -> None:
    """Between the look at its names and the change of its name, a file may get another."""
    for windows, changing in ((4, b"four"), (8, b"eight")):
        assert tier.write(point(windows), parted(changing, windows))
    tier.drop([point(4)], reuse=True)
    spare, copy = tmp_path / "host" / f".{KEY}.spare", tmp_path / "host" / f"{COPY}.0.1.4"
    copy.hardlink_to(spare)
    assert tier.write(point(12), parted(b"twelve", 12))
    assert copy.read_bytes().endswith(b"four")
    assert not spare.exists()


def test_a_state_with_two_names_takes_no_spares_place(tier: HostTier, tmp_path: Path) -> None:
    for windows in (4, 8, 12):
        assert tier.write(point(windows), parted(b"some", windows))
    tier.drop([point(4)], reuse=True)
    spare = (tmp_path / "host" / f".{KEY}.spare").stat().st_ino
    assert tier.link(point(8), COPY, 0)
    tier.drop([point(8)], reuse=True)
    assert (tmp_path / "host" / f".{KEY}.spare").stat().st_ino == spare


def test_a_copy_shares_all_of_it_and_outlives_the_original(tier: HostTier, tmp_path: Path) -> None:
    assert tier.write(point(4), parted(b"four", 4))
    assert tier.link(point(4), COPY, 0)
    assert len(files(tmp_path)) == 4
    assert len({path.stat().st_ino for path in files(tmp_path)}) == 2
    tier.drop(tier.points(KEY))
    kept = tier.read(point(4, COPY, 0))
    assert kept is not None
    assert kept.model == b"four" + SINK
    tier.drop(tier.points(COPY))
    assert files(tmp_path) == []


def test_a_part_goes_when_no_state_names_it_any_more(tier: HostTier, tmp_path: Path) -> None:
    assert tier.write(point(4), parted(b"a", 4, constant={"run1": Part(b"one")}))
    assert tier.write(point(8), parted(b"b", 8, constant={"run2": Part(b"two")}))
    tier.drop([point(4)])
    assert len(files(tmp_path, ".part")) == 2, "somebody may be about to name it"
    for path in files(tmp_path, ".part"):
        at = path.stat().st_mtime - 2 * GRACE_S
        os.utime(path, (at, at))
    tier.drop([point(4)])
    (left,) = files(tmp_path, ".part")
    assert "run2" in left.name
    assert tier.read(point(8)) is not None


def test_a_sweep_takes_parts_and_spares_of_nobody(tier: HostTier, tmp_path: Path) -> None:
    assert tier.write(point(4), parted(b"a", 4))
    assert tier.write(point(4, COPY), parted(b"a", 4))
    assert tier.write(point(8), parted(b"b", 8))
    tier.drop([point(4)], reuse=True)
    (tmp_path / "host" / f"{COPY}.1.1.4").unlink()
    later = (tmp_path / "host" / f"{KEY}.1.1.8").stat().st_mtime + TORN_S + 1
    tier.sweep({KEY}, later)
    assert [path.name for path in files(tmp_path)] == [f"{KEY}.1.1.8", f"{KEY}.sink1.part"]
    assert tier.read(point(8)) is not None


def test_to_make_room_a_session_goes_with_its_parts(tmp_path: Path) -> None:
    tier = HostTier(tmp_path / "host", 1000)
    old = key_of("old")
    assert tier.write(point(4, old), parted(bytes(200), 4, constant={"s": Part(bytes(200))}))
    assert tier.write(point(8, old), parted(bytes(100), 8, constant={"s": Part(bytes(200))}))
    tier.drop([point(4, old)], reuse=True)
    assert not tier.write(point(4), parted(bytes(1000), 4, constant={}))
    assert tier.read(point(8, old)) is None, "all of the other made no room for this"
    assert files(tmp_path) == []
    assert tier.write(point(4), parted(bytes(700), 4, constant={"s": Part(bytes(100))}))
    assert tier.write(point(8), parted(bytes(10), 8, constant={"s": Part(bytes(100))})), (
        "what lies there already needs no room"
    )


def test_a_part_that_is_not_as_long_as_it_says_leaves_nothing(
    tier: HostTier, tmp_path: Path
) -> None:
    short = Part(b"short")
    short.size = 9
    for state in (
        KeptState(b"c", SnapshotParts(short, {}), 1, 4),
        parted(b"a", 4, constant={"s": short}),
    ):
        with pytest.raises(ValueError, match="as long as"):
            tier.write(point(4), state)
    with pytest.raises(ValueError, match="name"):
        tier.write(point(4), parted(b"a", 4, constant={"../s": Part(b"x")}))
    assert [path for path in files(tmp_path) if not path.name.endswith("s.part")] == []


DYING = """
import sys
from pathlib import Path
from model_actor.snapshots import host_tier
from model_actor.plugin import SnapshotParts
from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.kept import KeptState
from tests.unit.model_actor.test_parted_snapshots import SINK, Part, parted, point

host_tier.SPARE_BYTES = 1
tier = HostTier(Path(sys.argv[1]), 0)
for windows in (4, 8):
    tier.write(point(windows), parted(bytes([windows]) * 100_000, windows))
if sys.argv[2] == "over":
    tier.drop([point(4)], reuse=True)

class Dying(Part):
    def pieces(self):
        yield memoryview(self.data)[: self.size // 2]
        print("half", flush=True)
        sys.stdin.read()

parts = SnapshotParts(Dying(b"!" * 100_000), {"sink1": Part(SINK)})
tier.write(point(12), KeptState(b"c", parts, 1, 12))
"""


@pytest.mark.parametrize("way", ["over", "anew"])
def test_a_process_killed_in_the_middle_of_a_write_loses_nothing_before_it(
    tmp_path: Path, way: str
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", DYING, str(tmp_path / "host"), way],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    half = next(path for path in files(tmp_path) if path.name.startswith(f".{child.pid}."))
    assert b"!" * 50_000 in half.read_bytes()
    tier = HostTier(tmp_path / "host", 0)
    state = tier.read(point(8))
    assert state is not None
    assert state.model == bytes([8]) * 100_000 + SINK
    assert (tier.read(point(4)) is None) == (way == "over")
    assert tier.read(point(12)) is None
    assert tier.write(point(12), parted(b"again", 12)), "another goes on in its place"
    tier.sweep({KEY}, half.stat().st_mtime + TORN_S + 1)
    assert not half.exists()
    tier.close()


async def test_the_storage_is_given_all_of_it(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path / "storage")
    kept = KeptStates(HostTier(tmp_path / "host", 0), StorageTier(storage), "here")
    assert await kept.store("direct", 1, parted(b"stored", 4))
    assert await kept.keep("s1", 1, parted(b"kept", 4))
    assert await kept.put_away("s1", 1)
    assert files(tmp_path) == []
    for session_id, changing in (("direct", b"stored"), ("s1", b"kept")):
        found = await kept.find(session_id, 1, lambda states: 0 if states else None)
        assert found is not None
        assert (found.point, found.state.model) == (None, changing + SINK)
        await kept.adopt(session_id, 2, found)
        again = await kept.find(session_id, 2, lambda states: 0 if states else None)
        assert again is not None
        assert again.point is not None
        assert again.state.model == changing + SINK
    await kept.close()
    await storage.close()


class InParts(Model):
    """A model whose sessions are bytes, and its thread."""

    def snapshot_parts(self, session: object) -> SnapshotParts:
        assert isinstance(session, bytes)
        return SnapshotParts(Part(session), {"sink1": Part(SINK)})

    def restore_parts(self, options: SessionOptions, snapshot: memoryview) -> object:
        assert isinstance(snapshot, memoryview)
        return bytes(snapshot).removesuffix(SINK)


class Inline:
    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments)

    def wake(self) -> None:
        """Nobody waits."""


async def test_a_model_of_parts_is_asked_for_them_and_another_for_bytes() -> None:
    states = ModelStates(InParts(), Inline())
    taken = await states.snapshot(b"session")
    assert isinstance(taken, SnapshotParts)
    assert await states.restore("s1", taken) == b"session"
    assert await states.restore("s1", whole(taken)) == b"session"
    plain = ModelStates(Model(), Inline())
    assert await plain.snapshot(b"session") == b"plain"
    restored = await plain.restore("s1", memoryview(b"read from two files"))
    assert restored == b"read from two files"
    assert isinstance(restored, bytes)


def test_the_bytes_of_parts_are_those_of_one_piece() -> None:
    state = parted(b"changing", 4)
    whole = b"".join(pieces(state))
    assert len(whole) == state.size
    assert parse(whole) == KeptState(b"control", b"changing" + SINK, 1, 4)


async def test_a_large_state_stays_on_its_host_where_the_way_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_tier, "SURE_BYTES", 100)
    monkeypatch.setattr(storage_tier, "_PIECE", 100)
    storage = FilesystemStorage(tmp_path / "storage")
    now, appended, rate = [0.0], [0], [10.0]
    append = storage.append

    async def slow(key: str, offset: int, data: bytes) -> None:
        now[0] += len(data) / rate[0]
        appended[0] += len(data)
        await append(key, offset, data)

    monkeypatch.setattr(storage, "append", slow)
    tier = StorageTier(storage, within_s=20.0, timer=lambda: now[0])
    large, small = KeptState(b"c", bytes(1000), 1, 4), KeptState(b"c", bytes(50), 1, 8)
    assert not await tier.write(KEY, 1, large)
    assert appended[0] < 250, "it was seen early"
    lying = [path.name for path in (tmp_path / "storage").rglob("*") if path.is_file()]
    assert lying == ["index"], "what had come there is removed"
    assert await tier.read(KEY) is None
    assert await tier.write(KEY, 1, small), "it would take five seconds"
    appended[0] = 0
    assert not await tier.write(KEY, 1, large)
    assert appended[0] == 0, "it is not tried again at once"
    stored = await tier.read(KEY)
    assert stored is not None
    assert stored[1] == small, "what was there before stays"
    now[0] += storage_tier.TRY_AGAIN_S + 1
    rate[0] = 1000.0
    assert await tier.write(KEY, 1, large), "the way has become faster"
    await storage.close()
