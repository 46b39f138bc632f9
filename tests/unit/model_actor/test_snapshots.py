"""Kept states: as bytes, as files of the host, in the storage."""

from __future__ import annotations

import itertools
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_actor.snapshots import storage_tier
from model_actor.snapshots.host_tier import TORN_S, HostTier, HostTierError
from model_actor.snapshots.kept import DAY_S, Age, KeptState, Point, begun, parse, pieces
from model_actor.snapshots.states import EXPIRE_S, Found, KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.kept_names import key_of
from scheduler.process.storage import FilesystemStorage, StorageError

pytestmark = pytest.mark.unit

STATE = KeptState(b"control", b"model", 1, 4)
KEY = key_of("s1")


def newest(states: object) -> int | None:
    found = list(states)  # type: ignore[call-overload]
    return max(range(len(found)), key=lambda i: found[i].windows) if found else None


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FilesystemStorage]:
    storage = FilesystemStorage(tmp_path / "storage")
    yield storage
    await storage.close()


@pytest.fixture
async def kept(tmp_path: Path, storage: FilesystemStorage) -> AsyncIterator[KeptStates]:
    kept = KeptStates(HostTier(tmp_path / "host", 0), StorageTier(storage), "here")
    yield kept
    await kept.close()


@pytest.fixture
def tier(tmp_path: Path) -> HostTier:
    return HostTier(tmp_path / "host", 1000)


@given(
    st.builds(
        KeptState,
        st.binary(max_size=300),
        st.none() | st.binary(max_size=300),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=300),
    ),
    st.data(),
)
def test_a_state_survives_and_one_that_is_torn_does_not(
    state: KeptState, data: st.DataObject
) -> None:
    whole = b"".join(pieces(state))
    assert len(whole) == state.size
    assert parse(whole) == state
    first = begun(whole)
    assert first is not None
    assert (first.state.control, first.state.model) == (state.control, None)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert parse(whole[:cut]) is None
    flipped = bytearray(whole)
    flipped[cut] ^= 1 << data.draw(st.integers(0, 7))
    assert parse(bytes(flipped)) != state
    assert parse(whole + b"x") is None


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_state(data: bytes) -> None:
    assert parse(data) is None


def test_the_folder_and_its_files_are_the_users_alone(tier: HostTier, tmp_path: Path) -> None:
    assert tier.write(Point(KEY, 1, 1, 4), STATE)
    (file,) = (tmp_path / "host").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "host").stat().st_mode) == 0o700
    assert b"s1" not in file.name.encode(), "a name tells nothing but a key and numbers"


@pytest.mark.parametrize("spoil", ["open to others", "a link", "a file"])
def test_a_folder_that_others_could_have_made_is_refused(tmp_path: Path, spoil: str) -> None:
    folder = tmp_path / "host"
    if spoil == "open to others":
        folder.mkdir(mode=0o755)
    elif spoil == "a link":
        (tmp_path / "mine").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "mine")
    else:
        folder.write_bytes(b"")
    with pytest.raises(HostTierError):
        HostTier(folder, 0)


def test_a_lower_epoch_writes_beside_a_higher_one_and_never_over_it(tier: HostTier) -> None:
    mine, stray = KeptState(b"c", b"mine", 1, 4), KeptState(b"c", b"stray", 1, 4)
    tier.write(Point(KEY, 2, 1, 4), mine)
    tier.write(Point(KEY, 1, 1, 4), stray)
    assert tier.read(Point(KEY, 2, 1, 4)) == mine
    assert [point.epoch for point in tier.points(KEY)] == [1, 2]


def test_a_file_under_a_wrong_name_is_no_state(tier: HostTier, tmp_path: Path) -> None:
    tier.write(Point(KEY, 1, 1, 4), STATE)
    folder = tmp_path / "host"
    (folder / f"{KEY}.1.1.4").rename(folder / f"{KEY}.1.1.8")
    assert tier.read(Point(KEY, 1, 1, 8)) is None
    (folder / f"{KEY}.1.1.9").symlink_to(folder / f"{KEY}.1.1.8")
    assert tier.read(Point(KEY, 1, 1, 9)) is None
    os.mkfifo(folder / f"{KEY}.1.1.10")
    assert tier.read(Point(KEY, 1, 1, 10)) is None


def test_the_oldest_states_of_others_make_room_and_ones_own_never_do(tmp_path: Path) -> None:
    state = KeptState(b"", bytes(300), 1, 1)
    tier = HostTier(tmp_path / "host", 3 * state.size)
    points = [Point(key_of(name), 1, 1, 1) for name in ("old", "mine", "young")]
    for age, point in enumerate(points):
        assert tier.write(point, state)
        os.utime(tmp_path / "host" / f"{point.key}.1.1.1", (age, age))
    fresh = Point(key_of("fresh"), 1, 1, 1)
    assert tier.write(fresh, state, own={points[1].key})
    assert [tier.read(point) is not None for point in (*points, fresh)] == [False, True, True, True]
    everybody = {point.key for point in (*points, fresh)}
    assert not tier.write(Point(key_of("late"), 1, 1, 1), state, own=everybody)


def test_room_is_counted_by_what_lies_there_and_not_by_its_names(tmp_path: Path) -> None:
    state = KeptState(b"", bytes(300), 1, 1)
    tier = HostTier(tmp_path / "host", 3 * state.size)
    shot, other = Point(key_of("shot"), 1, 1, 1), Point(key_of("other"), 1, 1, 1)
    assert tier.write(shot, state)
    assert tier.link(shot, key_of("copy"), 0)
    assert tier.write(other, state)
    copy = Point(key_of("copy"), 0, 1, 1)
    for age, point in enumerate((shot, copy, other)):
        os.utime(
            tmp_path / "host" / f"{point.key}.{point.epoch}.1.1", (age, age), follow_symlinks=False
        )
    larger = KeptState(b"", bytes(300 + 2 * state.size - state.size), 1, 1)
    assert tier.write(Point(KEY, 1, 1, 1), larger)
    # Both names of the oldest are gone: one alone would have made no room.
    assert [tier.read(point) is not None for point in (shot, copy, other)] == [False, False, True]
    lying = {path.stat().st_ino: path.stat().st_size for path in (tmp_path / "host").iterdir()}
    assert sum(lying.values()) <= 3 * state.size


def test_what_we_share_with_others_makes_no_room(tmp_path: Path) -> None:
    state = KeptState(b"", bytes(300), 1, 1)
    tier = HostTier(tmp_path / "host", 2 * state.size)
    shot, other = Point(key_of("shot"), 1, 1, 1), Point(key_of("other"), 1, 1, 1)
    assert tier.write(shot, state)
    assert tier.link(shot, key_of("copy"), 0)
    assert tier.write(other, state)
    assert tier.write(Point(KEY, 1, 1, 1), state, own={shot.key})
    copy = Point(key_of("copy"), 0, 1, 1)
    assert [tier.read(point) is not None for point in (shot, copy, other)] == [True, True, False]


def test_a_write_that_fails_leaves_nothing_behind(
    tier: HostTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="no space"):
        tier.write(Point(KEY, 1, 1, 4), STATE)
    assert list((tmp_path / "host").iterdir()) == []


def test_a_sweep_takes_what_nobody_touched_for_long(tier: HostTier, tmp_path: Path) -> None:
    folder = tmp_path / "host"
    for name in ("mine", "gone", "young", "left"):
        tier.write(Point(key_of(name), 1, 1, 1), KeptState(b"c", None, 1, 1))
    (folder / ".1.torn").write_bytes(b"")
    (folder / ".2.written").write_bytes(b"")
    (folder / "foreign").write_bytes(b"")
    now = 10 * DAY_S
    for name, age in [
        (f"{key_of('mine')}.1.1.1", 2 * DAY_S),
        (f"{key_of('gone')}.1.1.1", 2 * DAY_S),
        (f"{key_of('young')}.1.1.1", DAY_S / 2),
        (".1.torn", 2 * TORN_S),
        (".2.written", TORN_S / 2),
        ("foreign", 2 * DAY_S),
    ]:
        os.utime(folder / name, (now - age, now - age))
    tier.expire(tier.points(key_of("left")), EXPIRE_S, now - EXPIRE_S - 1)
    tier.sweep({key_of("mine")}, now)
    left = {path.name for path in folder.iterdir()}
    assert left == {
        f"{key_of('mine')}.1.1.1", f"{key_of('young')}.1.1.1", ".2.written", "foreign",
    }  # fmt: skip
    assert (folder / f"{key_of('mine')}.1.1.1").stat().st_mtime == now


async def test_what_a_lease_claims_outlives_the_end_of_the_one_before(kept: KeptStates) -> None:
    await kept.keep("s1", 1, KeptState(b"c", b"older", 1, 2))
    await kept.keep("s1", 1, KeptState(b"c", b"newer", 1, 4))
    await kept.claim("s1", 2)
    await kept.drop("s1", 1)
    found = await kept.find("s1", 1, newest)
    assert found is not None
    assert found.point == Point(KEY, 2, 1, 4)
    assert found.state.model == b"newer"


async def test_states_of_leases_before_the_snapshot_are_another_story(kept: KeptStates) -> None:
    await kept.keep("s1", 1, STATE)
    assert await kept.find("s1", 2, newest) is None


async def test_a_state_that_is_torn_gives_way_to_the_one_before(
    kept: KeptStates, tmp_path: Path
) -> None:
    await kept.keep("s1", 1, KeptState(b"c", b"older", 1, 2))
    await kept.keep("s1", 1, KeptState(b"c", b"newer", 1, 4))
    torn = tmp_path / "host" / f"{KEY}.1.1.4"
    torn.write_bytes(torn.read_bytes()[:-1] + b"?")
    found = await kept.find("s1", 1, newest)
    assert found is not None
    assert found.state.model == b"older"


async def test_who_goes_on_keeps_what_it_went_on_from_and_nothing_else(kept: KeptStates) -> None:
    for windows in (2, 4, 6):
        await kept.keep("s1", 1, KeptState(b"c", b"m", 1, windows))
    used = Point(KEY, 1, 1, 4)
    await kept.adopt("s1", 2, Found(used, KeptState(b"c", b"m", 1, 4)))
    found = await kept.find("s1", 0, newest)
    assert found is not None
    assert found.point == Point(KEY, 2, 1, 4)
    await kept.prune("s1", 2, 1, 6)
    assert await kept.find("s1", 0, newest) is None


async def test_the_storage_serves_where_the_host_has_nothing(kept: KeptStates) -> None:
    large = KeptState(b"c" * 10, bytes(3 << 20), 1, 4)
    assert await kept.store("s1", 3, large)
    found = await kept.find("s1", 3, newest)
    assert found is not None
    assert (found.point, found.state) == (None, large)
    assert await kept.find("s1", 4, newest) is None
    await kept.adopt("s1", 4, found)
    taken = await kept.find("s1", 4, newest)
    assert taken is not None
    assert taken.point == Point(KEY, 4, 1, 4), "the next death finds it on the host"


async def test_a_lower_epoch_replaces_nothing_in_the_storage_and_drops_nothing(
    kept: KeptStates,
) -> None:
    assert await kept.store("s1", 3, KeptState(b"new", b"m", 1, 4))
    assert not await kept.store("s1", 2, KeptState(b"old", b"m", 1, 8))
    await kept.drop("s1", 2)
    state = await kept.newest("s1", 9)
    assert state is not None
    assert state.control == b"new"
    await kept.drop("s1", 3)
    assert await kept.newest("s1", 9) is None


async def test_a_newer_state_replaces_the_stored_one_and_leaves_no_object_behind(
    kept: KeptStates, tmp_path: Path
) -> None:
    for windows in (4, 8):
        assert await kept.store("s1", 3, KeptState(b"c", b"m", 1, windows))
    files = [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]
    assert len(files) == 2, "an index and one object"


async def test_a_state_of_a_session_on_no_actor_is_put_away(kept: KeptStates) -> None:
    await kept.keep("s1", 3, STATE)
    assert await kept.renew("s1", 3) == "here"
    assert await kept.put_away("s1", 3)
    assert await kept.renew("s1", 3) == "", "it lies in the storage"
    assert await kept.put_away("s1", 3), "it was done before"
    found = await kept.find("s1", 3, newest)
    assert found is not None
    assert found.point is None
    assert not await kept.put_away("s2", 1), "nothing is kept of it"
    assert await kept.renew("s2", 1) is None


async def test_without_a_folder_everything_goes_on_and_nothing_is_kept(
    storage: FilesystemStorage,
) -> None:
    kept = KeptStates(None, StorageTier(storage), "here")
    assert kept.host_name == ""
    assert not await kept.keep("s1", 1, STATE)
    await kept.claim("s1", 2)
    await kept.prune("s1", 2, 1, 4)
    assert await kept.find("s1", 0, newest) is None
    await kept.close()
    assert not await kept.keep("s1", 1, STATE), "closed"


async def test_the_bytes_of_a_stored_state_are_not_handled_on_the_loop(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted_pieces(state: KeptState) -> tuple[bytes, ...]:
        threads.append(threading.get_ident())
        return pieces(state)

    def noted_parse(data: bytes) -> KeptState | None:
        threads.append(threading.get_ident())
        return parse(data)

    monkeypatch.setattr(storage_tier, "pieces", noted_pieces)
    monkeypatch.setattr(storage_tier, "parse", noted_parse)
    tier = StorageTier(storage)
    assert await tier.write(KEY, 1, STATE)
    assert await tier.read(KEY) == (Point(KEY, 1, 1, 4), STATE)
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def control(epoch: int, revision: int) -> bytes:
    snapshot = snapshot_pb2.ControlSnapshot(session_id="s1", epoch=epoch, revision=revision)
    return snapshot.SerializeToString()


def aged(folder: Path, seconds: float) -> None:
    """Makes all files of a folder so much older."""
    for path in folder.iterdir():
        at = path.stat().st_mtime - seconds
        os.utime(path, (at, at))


async def test_what_nobody_touches_goes_to_the_storage_and_what_is_held_stays(
    tmp_path: Path, storage: FilesystemStorage
) -> None:
    tier = HostTier(tmp_path / "host", 0)
    kept = KeptStates(tier, StorageTier(storage), "here", store_after_s=600.0)
    for name in ("parked", "held", "left", "young"):
        await kept.keep(name, 1, KeptState(b"c", name.encode(), 1, 4))
    kept.hold("held")
    aged(tmp_path / "host", 601.0)
    await kept.expire("left", 1)
    await kept.keep("young", 1, KeptState(b"c", b"newer", 1, 8))
    await kept.store_forsaken()
    assert {point.key for name in ("parked", "held", "left", "young")
            for point in tier.points(key_of(name))} == {
        key_of(name) for name in ("held", "left", "young")
    }  # fmt: skip
    found = await kept.find("parked", 1, newest)
    assert found is not None
    assert (found.point, found.state.model) == (None, b"parked")
    await kept.close()


async def test_of_the_actors_of_a_host_any_stores_what_a_dead_one_has_left(
    tmp_path: Path, storage: FilesystemStorage
) -> None:
    dead = KeptStates(HostTier(tmp_path / "host", 0), StorageTier(storage), "here")
    dead.hold("s1")
    await dead.keep("s1", 1, STATE)
    aged(tmp_path / "host", 5.0)
    neighbour = KeptStates(
        HostTier(tmp_path / "host", 0), StorageTier(storage), "here", store_after_s=5.0
    )
    await neighbour.claim("s1", 2)
    neighbour.leave("s1")
    await neighbour.store_forsaken()
    assert list((tmp_path / "storage").rglob("*-*")) == [], "somebody has just asked for it"
    aged(tmp_path / "host", 5.0)
    await neighbour.store_forsaken()
    assert list((tmp_path / "host").iterdir()) == []
    assert await neighbour.find("s1", 2, newest) == Found(None, STATE)
    await dead.close()
    await neighbour.close()


async def test_what_cannot_be_stored_stays_on_the_host(
    tmp_path: Path, storage: FilesystemStorage
) -> None:
    kept = KeptStates(
        HostTier(tmp_path / "host", 0), StorageTier(storage), "here", store_after_s=0.0
    )
    await kept.keep("s1", 1, STATE)
    (tmp_path / "storage").write_bytes(b"no folder")
    await kept.store_forsaken()
    assert await kept.renew("s1", 1) == "here"
    await kept.close()


async def test_a_stored_state_is_swept_when_nobody_has_needed_it_for_long(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    now = [1000.0]
    tier = StorageTier(storage, kept_for_s=100.0, clock=lambda: now[0])
    other = key_of("s2")
    assert await tier.write(KEY, 1, STATE)
    assert await tier.write(other, 1, STATE)
    now[0] += 99.0
    assert await tier.renew(KEY, 1)
    assert not await tier.renew(other, 0), "it was kept by a later lease"
    now[0] += 2.0
    await swept(tier)
    assert await tier.read(KEY) is not None
    assert [path.name for path in (tmp_path / "storage" / "kept").iterdir()] == [KEY]
    now[0] += 99.0
    await swept(tier)
    assert list((tmp_path / "storage" / "kept").iterdir()) == []
    assert not await tier.renew(KEY, 1)


async def swept(tier: StorageTier) -> None:
    """Sweeps all: the first sweep begins anywhere."""
    for _ in range(2):
        await tier.sweep()


async def test_a_sweep_of_the_storage_is_bounded_and_the_next_one_goes_on(
    storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_tier, "SWEPT", 2)
    now = [0.0]
    tier = StorageTier(storage, kept_for_s=1.0, clock=lambda: now[0])
    for number in range(5):
        assert await tier.write(key_of(f"s{number}"), 1, STATE)
    now[0] = 2.0
    left = [5]
    for _ in range(6):
        await tier.sweep()
        left.append(len(list((tmp_path / "storage" / "kept").iterdir())))
    assert left[-1] == 0
    assert all(before - after <= 2 for before, after in itertools.pairwise(left))


@pytest.mark.parametrize("left", ["an index", "an object", "nonsense"])
async def test_what_a_dying_writer_leaves_in_the_storage_has_an_end(
    storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    now = [0.0]
    tier = StorageTier(storage, kept_for_s=1.0, clock=lambda: now[0])
    folder = tmp_path / "storage" / "kept" / KEY

    async def fail(*_: object) -> None:
        raise StorageError("the process is gone")

    if left == "an index":
        monkeypatch.setattr(storage, "create", fail)
        assert not await tier.write(KEY, 1, STATE)
        assert [path.name for path in folder.iterdir()] == ["index"]
        assert await tier.read(KEY) is None
        await swept(tier)
        assert folder.exists(), "it may be being written"
    else:
        assert await tier.write(KEY, 1, STATE)
        if left == "an object":
            (folder / "index").unlink()
        else:
            (folder / "index").write_bytes(b"[]")
    now[0] = 2.0
    await swept(tier)
    assert not folder.exists()


async def test_a_storage_that_fails_for_a_moment_loses_nothing_to_the_sweep(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = StorageTier(storage)
    assert await tier.write(KEY, 1, STATE)

    async def fail(_: str) -> bytes:
        raise StorageError("out of reach")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "get", fail)
        await swept(tier)
    assert await tier.read(KEY) is not None


async def test_the_newest_control_snapshot_is_that_of_the_later_lease_then_of_the_later_word(
    kept: KeptStates,
) -> None:
    """Whatever the files are named after: who takes over links them under its own epoch."""
    await kept.keep("s1", 4, KeptState(control(4, 9), b"stray", 1, 9))
    await kept.keep("s1", 5, KeptState(control(5, 7), b"m", 1, 4))
    assert await kept.store("s1", 5, KeptState(control(5, 8), b"stored", 1, 5))
    state = await kept.newest("s1", 9)
    assert state is not None
    assert state.control == control(5, 8)
    assert await kept.newest("s1", 9, than=Age(5, 8)) is None
    await kept.keep("s1", 6, KeptState(control(6, 1), b"m", 1, 6))
    state = await kept.newest("s1", 9, than=Age(5, 8))
    assert state is not None
    assert (state.control, state.model) == (control(6, 1), None), "the model's part is not read"
