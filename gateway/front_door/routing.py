"""Which media worker serves what. Pure, but for the randomness of drawn ids."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError

from gateway.grpc_api.commands import ID_LENGTH
from sana_gateway.v1 import event_pb2, pool_pb2, replay_pb2, session_pb2, usage_pb2
from scheduler.core.errors import BadArgumentError

WORKER_PATH: Final = "workers"
"""First segment of paths that name their worker, as in `/workers/0/uploads/...`."""


def worker_of(session_id: str, workers: int) -> int:
    """Returns the index of the worker that a session belongs to, the same everywhere.

    Args:
        session_id: Any text: one that nobody drew belongs to somebody too, who says so.
        workers: How many there are.
    """
    return zlib.crc32(session_id.encode("utf-8", "surrogatepass")) % workers


def _draw() -> str:
    return f"s{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a gateway's sessions a process serves."""

    index: int = 0
    workers: int = 1
    """How many processes share the sessions; the only one serves all."""

    @property
    def path_prefix(self) -> str:
        """What stands before the paths of URLs that only this process can answer; without it
        they are the first one's.
        """
        return f"/{WORKER_PATH}/{self.index}" if self.workers > 1 else ""

    def new_session_id(self, draw: Callable[[], str] = _draw) -> str:
        """Returns an unguessable session id that belongs to this process.

        Args:
            draw: Draws an id; asked once per worker on average.
        """
        while worker_of(drawn := draw(), self.workers) != self.index:
            pass
        return drawn


WHOLE: Final = Share()
"""That of a gateway in one process."""

Aim = Literal["session", "create", "worker", "any"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes."""

    aim: Aim
    """`session`: to the owner of `key`. `create`: to whom the sessions are fewest, or where
    the request of this `key` went before. `worker`: to the worker
    of this index. `any`: to the first, who holds what belongs to no session."""
    key: str = ""
    path: str = ""
    """Path to ask the worker for, where it is not the one that came."""

    @property
    def authenticated(self) -> bool:
        """Whether who calls is checked before anything is forwarded."""
        return self.aim in ("session", "create")


def http_route(method: str, path: str) -> Route:
    """Returns where an HTTP request goes.

    Args:
        method: Its method.
        path: Its path, still encoded, without the query.
    """
    # Encoded slashes divide nothing, so the parts are decoded one by one.
    first, *rest = (unquote(part) for part in path.lstrip("/").split("/"))
    if first == "sessions":
        if rest and rest != [""]:
            return Route("session", rest[0])
        return Route("create" if method == "POST" else "any")
    if first in ("whip", "whep"):
        return _stream_route(method, first, rest)
    if first == "uploads":
        return Route("worker", "0")
    if first == WORKER_PATH and rest and rest[0].isascii() and rest[0].isdecimal():
        beyond = path.lstrip("/").split("/", 2)[2:]
        return Route("worker", rest[0], f"/{''.join(beyond)}")
    return Route("any")


def _stream_route(method: str, first: str, rest: Sequence[str]) -> Route:
    """Returns where a request of a publisher or player goes: a name that its user chose stands
    for a session, and belongs to a worker as an id does.
    """
    if first == "whep":
        return Route("session", rest[0] if rest else "")
    if len(rest) > 1 and rest[0] == "sessions":
        return Route("session", rest[1])
    if rest and rest[-1].startswith("~"):
        return Route("session", rest[-1])
    return Route("create" if method == "POST" else "any")


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the public contract."""

    path: str
    """As gRPC names it: `/package.Service/Method`."""
    name: str
    """The last part of it."""
    streaming: bool
    """Whether either side sends more than one message."""
    route: Callable[[bytes], Route]
    """From the first request to where the call goes.

    Raises:
        BadArgumentError: It is no request of this method.
    """


def _methods() -> Mapping[str, Method]:
    modules = (session_pb2, pool_pb2, event_pb2, usage_pb2, replay_pb2)
    files = [module.DESCRIPTOR for module in modules]
    found = {}
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                streaming = method.client_streaming or method.server_streaming
                found[path] = Method(path, method.name, streaming, _router(method))
    return found


def _router(method: MethodDescriptor) -> Callable[[bytes], Route]:
    message = message_factory.GetMessageClass(method.input_type)
    route = _reader(method)

    def routed(data: bytes) -> Route:
        try:
            return route(message.FromString(data))
        except DecodeError:
            raise BadArgumentError("the request is not a message of this call") from None

    return routed


def _reader(method: MethodDescriptor) -> Callable[[Any], Route]:
    """Returns how the route is read from a request: by the fields that its type has."""
    kind = method.input_type
    if _has_session(kind):
        return lambda request: Route("session", request.session_id)
    start = kind.fields_by_name.get("start")
    if start is not None and start.message_type is not None and _has_session(start.message_type):
        return lambda request: Route("session", request.start.session_id)
    if "request_id" in kind.fields_by_name:
        # One that is longer is refused by whoever gets it, and not kept until then.
        return lambda request: Route("create", request.request_id[: ID_LENGTH + 1])
    return lambda _: Route("any")


def _has_session(kind: Descriptor) -> bool:
    return "session_id" in kind.fields_by_name


METHODS: Final = _methods()
"""The public contract by path; what is not here is not forwarded."""
