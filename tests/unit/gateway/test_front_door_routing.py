"""Which worker serves what: the same everywhere, whoever asks."""

from __future__ import annotations

import zlib

import pytest

from gateway.front_door.routing import METHODS, WHOLE, Route, Share, http_route, worker_of
from sana_gateway.v1 import (
    command_pb2,
    event_pb2,
    media_pb2,
    pool_pb2,
    replay_pb2,
    session_pb2,
    usage_pb2,
)
from scheduler.core.errors import BadArgumentError

pytestmark = pytest.mark.unit

SERVICE = "/sana_gateway.v1.SessionService/"
POOL = "/sana_gateway.v1.PoolService/"


@pytest.mark.parametrize("session_id", ["s0", "", "s" + "f" * 32, "ü", "\udcff"])
def test_a_session_belongs_to_its_checksum_modulo_the_workers(session_id: str) -> None:
    checksum = zlib.crc32(session_id.encode("utf-8", "surrogatepass"))
    assert worker_of(session_id, 3) == checksum % 3
    assert worker_of(session_id, 1) == 0


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_a_worker_draws_ids_that_are_its_own(workers: int) -> None:
    for index in range(workers):
        share = Share(index, workers)
        drawn = {share.new_session_id() for _ in range(20)}
        assert len(drawn) == 20
        assert {worker_of(each, workers) for each in drawn} == {index}
        assert all(len(each) == 33 and each.startswith("s") for each in drawn)


def test_an_id_that_belongs_to_another_is_drawn_again() -> None:
    own = Share(1, 2)
    mine = next(f"s{n}" for n in range(99) if worker_of(f"s{n}", 2) == 1)
    others = next(f"s{n}" for n in range(99) if worker_of(f"s{n}", 2) == 0)
    drawn = iter([others, others, mine])
    assert own.new_session_id(lambda: next(drawn)) == mine


def test_only_one_of_many_puts_itself_into_paths() -> None:
    assert WHOLE.path_prefix == ""
    assert Share(2, 3).path_prefix == "/workers/2"


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/sessions", Route("create")),
        ("GET", "/sessions", Route("any")),
        ("GET", "/sessions/s1", Route("session", "s1")),
        ("DELETE", "/sessions/s1", Route("session", "s1")),
        ("PUT", "/sessions/s1/transport/webrtc/sdp_params", Route("session", "s1")),
        ("PUT", "/workers/1/uploads/abc", Route("worker", "1", "/uploads/abc")),
        ("PUT", "/uploads/abc", Route("worker", "0")),
        ("GET", "/workers/one/uploads", Route("any")),
        ("GET", "/workers", Route("any")),
        ("POST", "/tokens", Route("any")),
        ("POST", "/start_session", Route("any")),
        ("GET", "/session", Route("any")),
        ("GET", "/", Route("any")),
        ("POST", "/whip/painter", Route("create")),
        ("POST", "/whip/reactor/sana-streaming", Route("create")),
        ("POST", "/whip/painter/~studio", Route("session", "~studio")),
        ("POST", "/whip/sessions/s1", Route("session", "s1")),
        ("POST", "/whip/sessions/~studio", Route("session", "~studio")),
        ("PATCH", "/whip/sessions/s1/resource", Route("session", "s1")),
        ("POST", "/whip/sessions", Route("create")),
        ("GET", "/whip/painter", Route("any")),
        ("POST", "/whep/s1", Route("session", "s1")),
        ("DELETE", "/whep/s1/resource", Route("session", "s1")),
        ("POST", "/sessions/~studio/commands", Route("session", "~studio")),
        ("GET", "//sessions/s1", Route("session", "s1")),
        ("POST", "/sessions/", Route("create")),
        ("GET", "/workers/1", Route("worker", "1", "/")),
        ("PUT", "/workers/1/uploads/a%2Fb", Route("worker", "1", "/uploads/a%2Fb")),
        ("POST", "/whip/sessions%2Fs1", Route("create")),
        ("POST", "/whip/painter%2F~studio", Route("create")),
        ("POST", "/whip/painter/%257Estudio", Route("create")),
    ],
)
def test_paths_say_where_a_request_goes(method: str, path: str, route: Route) -> None:
    assert http_route(method, path) == route


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/whip/painter/~studio"),
        ("POST", "/whip/sessions/~studio"),
        ("PATCH", "/whip/sessions/~studio/resource"),
        ("POST", "/whep/~studio"),
        ("GET", "/sessions/~studio/state"),
    ],
)
def test_a_name_goes_to_one_worker_however_it_is_written(method: str, path: str) -> None:
    for tilde in ("%7E", "%7e"):
        written = path.replace("~", tilde).replace("d", "%64").replace("w", "%77")
        assert http_route(method, written) == Route("session", "~studio")


def test_only_routes_of_sessions_are_authenticated_before_they_are_forwarded() -> None:
    assert http_route("POST", "/sessions").authenticated
    assert http_route("GET", "/sessions/s1").authenticated
    assert not http_route("POST", "/tokens").authenticated
    assert not http_route("PUT", "/workers/0/uploads/capability").authenticated


def test_the_whole_contract_is_forwarded() -> None:
    modules = (session_pb2, pool_pb2, event_pb2, usage_pb2, replay_pb2)
    files = [module.DESCRIPTOR for module in modules]
    services = [service for file in files for service in file.services_by_name.values()]
    assert set(METHODS) == {
        f"/{service.full_name}/{method.name}" for service in services for method in service.methods
    }
    assert {each.name for each in METHODS.values() if each.streaming} == {
        "Attach",
        "DrainActor",
        "ExportJournal",
        "Media",
        "Upload",
        "WatchEvents",
    }


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (SERVICE + "GetSession", session_pb2.GetSessionRequest(session_id="s7")),
        (SERVICE + "CloseSession", session_pb2.CloseSessionRequest(session_id="s7")),
        (
            SERVICE + "Execute",
            session_pb2.ExecuteRequest(
                session_id="s7", command=command_pb2.Command(start=command_pb2.Start())
            ),
        ),
        (SERVICE + "Signal", session_pb2.SignalRequest(session_id="s7")),
        (SERVICE + "GetUpload", session_pb2.GetUploadRequest(session_id="s7", upload_id="u")),
        (
            SERVICE + "Attach",
            session_pb2.AttachRequest(start=session_pb2.AttachStart(session_id="s7")),
        ),
        (
            SERVICE + "Upload",
            session_pb2.UploadRequest(start=session_pb2.UploadStart(session_id="s7")),
        ),
        (
            SERVICE + "Media",
            media_pb2.MediaRequest(start=media_pb2.MediaStart(session_id="s7", watch=True)),
        ),
    ],
)
def test_the_first_message_names_the_session(path: str, request_: object) -> None:
    data = request_.SerializeToString()  # type: ignore[attr-defined]
    assert METHODS[path].route(data) == Route("session", "s7")


def test_a_creation_is_known_by_its_request_and_the_pool_is_anybodys() -> None:
    create = session_pb2.CreateSessionRequest(model="painter", request_id="r1")
    assert METHODS[SERVICE + "CreateSession"].route(create.SerializeToString()) == Route(
        "create", "r1"
    )
    assert METHODS[POOL + "DescribePool"].route(b"") == Route("any")


def test_a_stream_that_begins_otherwise_goes_where_its_mistake_is_told() -> None:
    command = session_pb2.AttachRequest(command=command_pb2.Command(command_id="c"))
    route = METHODS[SERVICE + "Attach"].route(command.SerializeToString())
    assert route == Route("session", "")


def test_garbage_is_the_callers_mistake() -> None:
    with pytest.raises(BadArgumentError):
        METHODS[SERVICE + "GetSession"].route(b"\xff\xff\xff\xff")
