"""Every route of HTTP, and how it is asked for what is whose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from gateway.process import GatewayProcess
from gateway.settings import GatewaySettings
from tests.e2e.isolation.rows import (
    Ask,
    everybody,
    holders,
    makers,
    members,
    namesakes,
    nobody,
    operators,
    passers_by,
)
from tests.unit.sdk_adapters.whip_offers import FRAGMENT, OBS, PLAYER

_JSON: Final = {"Content-Type": "application/json"}
_SDP: Final = {"Content-Type": "application/sdp"}
_TRICKLE: Final = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": '"0"'}
_WEBRTC: Final = "/sessions/{session_id}/transport/webrtc"
_CONNECTION: Final = _WEBRTC + "/connections/{connection_id}"
_CREATE: Final = "/whip/{model}{name}"
_OFFER: Final = {
    "sdp_offer": PLAYER,
    "client_info": {"sdk_type": "js", "sdk_version": "2.12.3"},
    "track_mapping": [{"mid": "1", "name": "main_video"}],
}


def said(body: object) -> bytes:
    """Writes a JSON body."""
    return json.dumps(body).encode()


def session(beyond: str = "", body: object = None, **words: Any) -> Ask:
    """Returns a request of something below a session of the Reactor wire."""
    content = b"" if body is None else said(body)
    return Ask(lambda it: f"/sessions/{it.session}{beyond}", content, _JSON, **words)


def linked(beyond: str, body: object = None, **words: Any) -> Ask:
    """Returns a request of something below a connection."""
    content = b"" if body is None else said(body)
    return Ask(
        lambda it: f"/sessions/{it.session}/transport/webrtc/connections/{it.connection}{beyond}",
        content,
        _JSON,
        **words,
    )


_TABLE: Final[dict[str, tuple[Ask, ...]]] = {
    "GET /": (Ask(lambda _: "/", who=everybody, allowed="200"),),
    "GET /console": (Ask(lambda _: "/console", who=everybody, allowed="200"),),
    "GET /assets/{name}": (Ask(lambda _: "/assets/nothing", who=everybody, allowed="404"),),
    "GET /livez": (Ask(lambda _: "/livez", who=everybody, allowed="200"),),
    "GET /readyz": (Ask(lambda _: "/readyz", who=everybody, allowed="200"),),
    "GET /startupz": (Ask(lambda _: "/startupz", who=everybody, allowed="200"),),
    # It differs from look to look: what it holds is tested on its own.
    "GET /metrics": (),
    "GET /events": (),
    "GET /operator/pool": (
        Ask(lambda _: "/operator/pool", who=operators),
        Ask(lambda _: "/operator/pool?sessions=none", who=operators),
    ),
    "GET /operator/usage": (
        Ask(lambda it: f"/operator/usage?session={it.session}", who=operators),
    ),
    "GET /operator/sessions/{session_id}": (
        Ask(lambda it: f"/operator/sessions/{it.session}", who=operators),
    ),
    "DELETE /operator/sessions/{session_id}": (
        Ask(lambda it: f"/operator/sessions/{it.session}?reason=mine", who=operators),
    ),
    "GET /operator/sessions/{session_id}/trace": (
        Ask(lambda it: f"/operator/sessions/{it.session}/trace", who=operators),
    ),
    "POST /operator/actors/{actor_id}/drain": (
        Ask(lambda _: "/operator/actors/actor-0/drain", b"{}", _JSON, who=operators),
    ),
    "POST /tokens": (
        Ask(lambda _: "/tokens", said({"authorization_details": []}), _JSON, who=nobody),
    ),
    "POST /sessions": (
        Ask(
            lambda _: "/sessions",
            said({"model": {"name": "no-such-model"}}),
            _JSON,
            who=makers,
            allowed="404",
            own="404",
        ),
    ),
    "GET /sessions/{session_id}": (session(own="200"),),
    "GET /sessions/{session_id}/info": (session("/info", own="200"),),
    "PUT /sessions/{session_id}": (session(body={}, own="200"),),
    "DELETE /sessions/{session_id}": (session(own="204", ends=True),),
    f"GET {_WEBRTC}/ice_servers": (session("/transport/webrtc/ice_servers", own="200"),),
    f"POST {_WEBRTC}/connections": (session("/transport/webrtc/connections", {}, own="201"),),
    f"POST {_CONNECTION}/ice_candidates": (
        linked("/ice_candidates", {"candidates": []}, own="202"),
    ),
    f"POST {_WEBRTC}/ice_candidates": (
        session("/transport/webrtc/ice_candidates", {"candidates": []}, own="202"),
    ),
    f"POST {_WEBRTC}/sdp_params": (session("/transport/webrtc/sdp_params", _OFFER, own="202"),),
    f"PUT {_WEBRTC}/sdp_params": (session("/transport/webrtc/sdp_params", _OFFER, own="202"),),
    f"GET {_WEBRTC}/sdp_params": (session("/transport/webrtc/sdp_params", own="200"),),
    f"POST {_CONNECTION}/sdp_params": (linked("/sdp_params", _OFFER, own="202"),),
    f"PUT {_CONNECTION}/sdp_params": (linked("/sdp_params", _OFFER, own="202"),),
    f"GET {_CONNECTION}/sdp_params": (linked("/sdp_params", own="200"),),
    "POST /start_session": (Ask(lambda _: "/start_session", b"{}", _JSON, who=nobody),),
    "GET /session": (Ask(lambda _: "/session", who=nobody),),
    "POST /stop_session": (Ask(lambda _: "/stop_session", b"{}", _JSON, who=nobody),),
    "POST /sessions/{session_id}/uploads": (
        session("/uploads", {"name": "a.mp4", "mime_type": "video/mp4", "size": 9}, own="201"),
    ),
    "PUT /uploads/{capability}": (
        # The address itself is the leave: one that is nearly right is none.
        Ask(lambda it: f"/uploads/{it.capability[:-9]}AAAAAAAAA", b"123456789", who=holders),
        Ask(lambda it: f"/uploads/{it.upload}", b"123456789", who=holders),
    ),
    "GET /clips": (Ask(lambda it: f"/clips?session_id={it.session}&start=0&end=1"),),
    "GET /clips/chunks/{session_id}/{file}": (
        Ask(
            lambda it: (
                f"/clips/chunks/{it.session}/init.mp4?until={it.until}"
                f"&signature={it.signature[:-4]}0000"
            ),
            who=holders,
        ),
        Ask(lambda it: f"/clips/chunks/{it.session}/chunk_00000.m4s", who=holders),
    ),
    "GET /sessions/{session_id}/place": (session("/place?seen=0", own="200"),),
    "POST /sessions/{session_id}/forks": (session("/forks", {"copies": 1}, own="201"),),
    "GET /schema": (
        Ask(lambda _: "/schema?model=no-such-model", who=members, allowed="404", own="404"),
    ),
    "POST /whip/sessions/{session}": (
        Ask(lambda it: f"/whip/sessions/{it.session}", OBS.encode(), _SDP, own="201"),
        Ask(lambda it: f"/whip/sessions/{it.stream}", OBS.encode(), _SDP, who=namesakes),
    ),
    "PATCH /whip/sessions/{session}/{resource}": (
        Ask(
            lambda it: f"/whip/sessions/{it.streamed}/{it.publisher}",
            FRAGMENT.encode(),
            _TRICKLE,
            own="412",
        ),
    ),
    "DELETE /whip/sessions/{session}/{resource}": (
        Ask(lambda it: f"/whip/sessions/{it.streamed}/{it.publisher}", own="200", ends=True),
    ),
    "GET /whip/sessions/{session}": (
        Ask(lambda it: f"/whip/sessions/{it.session}", who=passers_by, allowed="204"),
    ),
    "GET /whip/sessions/{session}/{resource}": (
        Ask(
            lambda it: f"/whip/sessions/{it.streamed}/{it.publisher}",
            who=passers_by,
            allowed="204",
        ),
    ),
    "POST /whep/{session}": (
        Ask(lambda it: f"/whep/{it.session}", PLAYER.encode(), _SDP, own="201"),
        Ask(lambda it: f"/whep/{it.stream}", PLAYER.encode(), _SDP, who=namesakes),
    ),
    "PATCH /whep/{session}/{resource}": (
        Ask(lambda it: f"/whep/{it.session}/{it.player}", FRAGMENT.encode(), _TRICKLE, own="422"),
    ),
    "DELETE /whep/{session}/{resource}": (
        Ask(lambda it: f"/whep/{it.session}/{it.player}", own="200", ends=True),
    ),
    "GET /whep/{session}": (Ask(lambda it: f"/whep/{it.session}", who=passers_by, allowed="204"),),
    "GET /whep/{session}/{resource}": (
        Ask(lambda it: f"/whep/{it.session}/{it.player}", who=passers_by, allowed="204"),
    ),
    # Whoever may have sessions may have a name of his own: see `test_names_are_ones_own`.
    f"POST {_CREATE}": (
        Ask(
            lambda it: f"/whip/no-such-model/{it.stream}",
            OBS.encode(),
            _SDP,
            who=makers,
            allowed="404",
        ),
    ),
    f"GET {_CREATE}": (
        Ask(lambda it: f"/whip/simulated/{it.stream}", who=passers_by, allowed="204"),
    ),
    "POST /sessions/{session}/commands": (
        Ask(
            lambda it: f"/sessions/{it.session}/commands",
            said({"type": "set_seed", "data": {"seed": 5}}),
            _JSON,
            own="200",
        ),
        Ask(
            lambda it: f"/sessions/{it.stream}/commands",
            said({"type": "reset"}),
            _JSON,
            who=namesakes,
        ),
    ),
    "GET /sessions/{session}/state": (
        Ask(lambda it: f"/sessions/{it.session}/state", own="200"),
        Ask(lambda it: f"/sessions/{it.stream}/state", who=namesakes),
        Ask(lambda it: f"/sessions/{it.fork}/state"),
    ),
}
"""By method and route. A route without a row here fails a test."""

ROUTES: Final = frozenset(_TABLE)
ASKS: Final = {
    f"{route}{f' {number}' if number else ''}": (route.partition(" ")[0], ask)
    for route, asks in _TABLE.items()
    for number, ask in enumerate(asks)
}
"""All rows by their names, with the method."""


async def served(folder: Path) -> set[str]:
    """Returns all routes that a gateway serves, as the rows name them.

    Args:
        folder: For its uploads.
    """
    process = GatewayProcess(
        GatewaySettings(
            http_port=0,
            grpc_port=0,
            placement_address=f"unix:{folder}/nobody",
            storage_options={"root": str(folder / "storage")},
        )
    )
    await process.start()
    try:
        app: Any = process._http._app
        return {
            f"{route.method} {resource.canonical}"
            for resource in app.router.resources()
            for route in resource
            if route.method != "HEAD"
        }
    finally:
        await process.stop()
