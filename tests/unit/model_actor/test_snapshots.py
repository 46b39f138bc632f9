"""Kept states: as bytes, as files of the host, in the storage."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_actor.snapshots import storage_tier
from model_actor.snapshots.host_tier import STALE_S, TORN_S, HostTier, HostTierError
from model_actor.snapshots.kept import KeptState, Point, key_of, parse, pieces
from model_actor.snapshots.states import EXPIRE_S, Found, KeptStates
from model_actor.snapshots.storage_tier import StorageTier, copy_upload
from scheduler.process.storage import FilesystemStorage

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
    ),
    st.data(),
)
def test_a_state_survives_and_one_that_is_torn_does_not(
    state: KeptState, data: st.DataObject
) -> None:
    whole = b"".join(pieces(state))
    assert len(whole) == state.size
    assert parse(whole) == state
    control = parse(whole, model=False)
    assert control is not None
    assert (control.control, control.model) == (state.control, None)
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
    now = 10 * STALE_S
    for name, age in [
        (f"{key_of('mine')}.1.1.1", 2 * STALE_S),
        (f"{key_of('gone')}.1.1.1", 2 * STALE_S),
        (f"{key_of('young')}.1.1.1", STALE_S / 2),
        (".1.torn", 2 * TORN_S),
        (".2.written", TORN_S / 2),
        ("foreign", 2 * STALE_S),
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
    assert await kept.has("s1", 3)
    assert await kept.put_away("s1", 3)
    assert not await kept.has("s1", 3)
    found = await kept.find("s1", 3, newest)
    assert found is not None
    assert found.point is None
    assert not await kept.put_away("s2", 1), "nothing is kept of it"


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
    assert await tier.write("s1", 1, STATE)
    assert await tier.read("s1") == (Point(KEY, 1, 1, 4), STATE)
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_an_upload_is_copied_once(storage: FilesystemStorage) -> None:
    data = bytes(range(256)) * 9000
    await storage.create("s1/u1", len(data))
    await storage.append("s1/u1", 0, data)
    for _ in range(2):
        await copy_upload(storage, "s1/u1", "s2/u1")
    with tempfile.TemporaryFile() as copy:
        assert await storage.fetch("s2/u1", copy.fileno()) == len(data)
        copy.seek(0)
        assert copy.read() == data
