"""Commands as JSON over HTTP, for whoever has no SDK: one command, one answer.

The words are the seed's: `{"type": "set_prompt", "data": {"prompt": "..."}}`. The answer holds
the messages that the command was answered with, and the state after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway import http, ports
from gateway.grpc_api.commands import ID_LENGTH
from gateway.grpc_api.errors import UnansweredError
from gateway.grpc_api.execute import ANSWER_S, execute, refusal
from gateway.ingress import IngressServices
from sana_gateway.v1 import message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.commands import RejectReason
from scheduler.core.errors import BadArgumentError, CommandRefusedError, NotReadyError
from sdk_adapters.reactor import translate
from sdk_adapters.whip.endpoints import told
from sdk_adapters.whip.streams import Streams, placed

STATUSES: Final[Mapping[RejectReason | None, int]] = {
    RejectReason.UNKNOWN_COMMAND: 400,
    RejectReason.BAD_ARGUMENT: 400,
    RejectReason.NOT_ALLOWED: 403,
    RejectReason.BAD_VIDEO: 422,
    RejectReason.NO_CAPACITY: 503,
    RejectReason.MODEL_FAILED: 500,
}
"""The status of a refused command by its reason; all others are 409: it is the wrong moment."""
WRONG_MOMENT: Final = 409
"""The status of those others."""


class CommandRoutes:
    """Handlers of the routes."""

    def __init__(self, services: IngressServices, streams: Streams) -> None:
        """Prepares the handlers.

        Args:
            services: Who calls.
            streams: The sessions.
        """
        self._services = services
        self._streams = streams

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        return [
            web.post("/sessions/{session}/commands", told(self._command)),
            web.get("/sessions/{session}/state", told(self._state)),
        ]

    async def _command(self, request: web.Request) -> web.Response:
        principal = http.caller(self._services, request)
        wanted = command_of(await http.json_object(request))
        session = await self._streams.find(principal, request.match_info["session"])
        try:
            if isinstance(wanted, stream_pb2.InvalidCommand):
                raise refusal(_error(wanted))
            answered = await execute(session, wanted, limit_s=ANSWER_S, wire_name="whip")
        except CommandRefusedError as error:
            return _refused(error, session)
        except UnansweredError as error:
            raise web.HTTPGatewayTimeout(reason="the command was not answered in time") from error
        return web.json_response(
            {
                "session_id": session.session_id,
                "messages": [said for each in answered.messages if (said := _said(each))],
                "state": _payload(message_pb2.Message(state=answered.state)),
            }
        )

    async def _state(self, request: web.Request) -> web.Response:
        principal = http.caller(self._services, request)
        session = await self._streams.find(principal, request.match_info["session"])
        await placed(session)
        # Whoever looks is not connected: a session that is parked stays so.
        state = session.state
        if state is None:
            raise NotReadyError("the session has not said how it is; try again", retry_after_s=1.0)
        shown = _payload(message_pb2.Message(state=state))
        return web.json_response({"session_id": session.session_id, "state": shown})


def command_of(body: Mapping[str, Any]) -> ports.CommandLike:
    """Makes a command of a JSON object.

    Raises:
        BadArgumentError: The object is none of a command's; what is wrong with the command
            itself makes it an `InvalidCommand` instead.
    """
    unknown = body.keys() - {"type", "data", "command_id"}
    name, data, command_id = body.get("type"), body.get("data"), body.get("command_id", "")
    if not isinstance(name, str) or not name or unknown:
        raise BadArgumentError("a command has a type, and may have data and a command_id")
    if not isinstance(command_id, str) or len(command_id) > ID_LENGTH:
        raise BadArgumentError(f"a command_id has at most {ID_LENGTH} characters")
    return translate.command(command_id, name, {} if data is None else data, {})


def _refused(error: CommandRefusedError, session: ports.HubSession) -> web.Response:
    retry_after_s = error.retry_after_s
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    body: dict[str, object] = {
        "session_id": session.session_id,
        "detail": str(error),
        "reason": error.reason,
        "messages": [
            {
                "type": "command_error",
                "data": {"command": error.command, "reason": str(error)},
            }
        ],
    }
    status = STATUSES.get(error.code, WRONG_MOMENT)
    return web.json_response(body, status=status, headers=headers)


def _error(wrong: stream_pb2.InvalidCommand) -> message_pb2.CommandError:
    return message_pb2.CommandError(command=wrong.name, reason=wrong.reason, code=wrong.code)


def _said(message: message_pb2.Message) -> dict[str, object] | None:
    translated = translate.message(message)
    return None if translated is None else {"type": translated[0], "data": translated[1]}


def _payload(message: message_pb2.Message) -> dict[str, object]:
    translated = translate.message(message)
    return {} if translated is None else translated[1]
