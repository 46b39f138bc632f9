"""`serve --auth api-key`: what keys and tokens open, through every door and every worker.

One service with two media workers behind a front door: each worker has a hub of its own, so
what holds for all of them is known to the scheduler or stands in the tokens.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from typer.testing import CliRunner

from gateway import keys_command
from gateway.auth.api_key import ApiKeyAuth
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc, session_pb2, session_pb2_grpc
from tests.e2e.driving import SIMULATED, polled
from tests.e2e.reactor import reactor_sdks
from tests.fakes.identity_provider import SigningKey
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LIMIT_S = 120.0
KEYS = {
    "web": ["--tenant", "acme", "--model", "simulated", "--max-sessions", "6"],
    "single": ["--tenant", "trial", "--max-sessions", "1"],
    "single-native": ["--tenant", "trial", "--max-sessions", "1"],
    "single-py08": ["--tenant", "trial", "--max-sessions", "1"],
    "other": ["--tenant", "acme", "--model", "painter"],
    "rival": ["--tenant", "rival"],
    "short": ["--tenant", "short", "--max-session-duration", "8s"],
    "ops": ["--tenant", "staff", "--scope", "operator"],
    "gone": ["--tenant", "gone"],
    "metered": [
        *("--tenant", "metered", "--limit", "sessions_per_minute=2"),
        *("--limit", "uploads_per_day=1000"),
    ],
}
AUDIENCE = "sana"
ISSUER = "https://id.example.com"
MODEL = {"model": {"name": "sana-streaming"}}


@dataclass(frozen=True)
class Guarded:
    """A service that asks for keys."""

    stack: Stack
    keys: dict[str, str]
    file: Path
    secret: Path
    provider: SigningKey
    """Whose tokens are taken, too."""

    def expired(self) -> str:
        """Returns a token of the service whose time is over."""
        long_ago = ApiKeyAuth(str(self.file), str(self.secret), clock=lambda: time.time() - 7200)
        return long_ago.issue(self.keys["web"], 60, None)[0]


def command(file: Path, *words: str) -> str:
    """Runs `sana-gateway keys`; returns what it printed."""
    done = CliRunner().invoke(keys_command.keys, [*words, "--file", str(file)])
    assert done.exit_code == 0, done.exception
    return done.stdout.strip()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file, state = folder / "keys.yaml", folder / "state"
    secret = state / "sana-gateway" / "token-secret"
    keys = {name: command(file, "new", "--id", name, *words) for name, words in KEYS.items()}
    keys["wrong"] = "rk_wrong"
    provider, known = SigningKey("provider", "ES256"), folder / "jwks.json"
    known.write_text(json.dumps({"keys": [provider.public]}))
    options = (
        *("--auth", "api-key,jwks", "--api-keys", str(file), "--media-workers", "2"),
        *("--jwks-issuer", ISSUER, "--jwks-audience", AUDIENCE, "--jwks-url", f"file://{known}"),
    )
    with serving(*SIMULATED, *options, env={"XDG_STATE_HOME": str(state)}) as running:
        yield Guarded(running, keys, file, secret, provider)
        logged = running.log.read_text()
    secrets = [*keys.values(), secret.read_text().strip()]
    assert not [secret for secret in secrets if secret in logged]
    assert "eyJ" not in logged, "no token is logged"


@pytest.fixture
async def http(guarded: Guarded) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(guarded.stack.http_url) as made:
        yield made


async def mint(http: aiohttp.ClientSession, key: str, **wishes: Any) -> str:
    async with http.post("/tokens", json=wishes or None, headers={"Reactor-API-Key": key}) as it:
        assert it.status == 200, await it.text()
        answer = await it.json()
    assert answer["expires_at"] > time.time()
    return str(answer["jwt"])


def scoped(**parts: Any) -> dict[str, Any]:
    return {"authorization_details": [{"type": "session", **parts}]}


async def ask(
    http: aiohttp.ClientSession, method: str, path: str, token: str | None = None, body: Any = None
) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(method, path, json=body, headers=headers) as answer:
        told = await answer.json() if answer.content_type == "application/json" else {}
        return answer.status, told, dict(answer.headers)


async def create(http: aiohttp.ClientSession, token: str) -> str:
    status, told, _ = await ask(http, "POST", "/sessions", token, MODEL)
    assert status == 201, told
    return str(told["session_id"])


@contextlib.asynccontextmanager
async def session(http: aiohttp.ClientSession, token: str) -> AsyncIterator[str]:
    session_id = await create(http, token)
    try:
        yield session_id
    finally:
        await ask(http, "DELETE", f"/sessions/{session_id}", token)


async def report(guarded: Guarded, name: str) -> dict[str, Any]:
    """Returns what an unmodified SDK made of its keys."""
    script = Path(__file__).with_name(f"tokens_{name}.py")
    keys = guarded.keys | {"single": guarded.keys[f"single-{name}"]}
    plan = {"url": guarded.stack.http_url, "keys": keys, "expired": guarded.expired()}
    python = reactor_sdks.SDKS[name].python
    out, err = await reactor_sdks.run(python, str(script), json.dumps(plan), limit_s=LIMIT_S)
    assert out, err[-4000:]
    seen: dict[str, Any] = json.loads(out.splitlines()[-1])
    return seen


@pytest.fixture(scope="module")
def reports(guarded: Guarded) -> dict[str, Any]:
    """Returns what both SDKs saw, at the same time."""

    async def both() -> dict[str, Any]:
        names = ("native", "py08")
        seen = await asyncio.gather(*(report(guarded, name) for name in names))
        return dict(zip(names, seen, strict=True))

    return asyncio.run(both())


def test_the_native_sdk_understands_what_its_keys_open(reports: dict[str, Any]) -> None:
    seen = reports["native"]
    assert (seen["connect"], seen["join"]) == ("ready", "ready")
    assert seen["wrong key"]["error"] == "AuthError"
    assert "401" in seen["wrong key"]["text"]
    assert seen["senseless"]["error"] == "AuthError"
    assert "max_session_duration_seconds" in seen["senseless"]["text"]
    refusals = {
        "expired token": 401,
        "key as token": 401,
        "other model": 403,
        "bound creates": 403,
        "not its session": 403,
    }
    for case, status in refusals.items():
        told = seen[case]
        assert (told["error"], told["status"]) == ("UnauthorizedError", status), case
        assert told["recoverable"] is False
    limit = seen["one too many"]
    assert (limit["error"], limit["status"]) == ("RateLimitedError", 429)
    assert limit["recoverable"] is True
    assert limit["retry_after_ms"] == 5000


def test_the_older_sdk_understands_what_its_keys_open(reports: dict[str, Any]) -> None:
    seen = reports["py08"]
    assert (seen["connect"], seen["join"]) == ("ready", "ready")
    for case, status in {"wrong key": 401, "other model": 403, "one too many": 429}.items():
        assert str(status) in seen[case]["text"], case
    # It is told that its session has ended before its connection is closed.
    assert "ready" in seen["longest time"]
    assert seen["longest time"][-2:] == ["sessionEnded", "disconnected"]


async def test_every_refusal_has_its_status_its_words_and_what_browsers_need(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    keys = guarded.keys
    web = await mint(http, keys["web"])
    rival, other = await mint(http, keys["rival"]), await mint(http, keys["other"])
    async with session(http, web) as mine:
        path = f"/sessions/{mine}"
        bound = await mint(http, keys["web"], **scoped(resources={"sessions": {"bind": [mine]}}))
        assert (await ask(http, "GET", path, bound))[0] == 200
        # How, with which token, and the status.
        cases: list[tuple[str, str, str | None, int]] = [
            ("POST", "/sessions", None, 401),
            ("POST", "/sessions", "local", 401),
            ("POST", "/sessions", keys["web"], 401),
            ("POST", "/sessions", guarded.expired(), 401),
            ("POST", "/sessions", web[:-3] + "abc", 401),
            ("GET", path, None, 401),
            ("GET", f"{path}/transport/webrtc/ice_servers", "local", 401),
            ("POST", f"{path}/transport/webrtc/connections", None, 401),
            ("POST", f"{path}/uploads", "local", 401),
            ("POST", "/start_session", "local", 401),
            ("GET", "/session", None, 401),
            ("POST", "/stop_session", web, 401),
            ("POST", "/sessions", other, 403),
            ("POST", "/sessions", bound, 403),
            ("GET", path, other, 403),
            ("GET", path, rival, 404),
            ("DELETE", path, rival, 404),
            ("POST", f"{path}/uploads", rival, 404),
            ("GET", "/sessions/" + "s" + "0" * 32, web, 404),
        ]
        for method, target, token, status in cases:
            got, told, headers = await ask(
                http, method, target, token, MODEL if target == "/sessions" else {}
            )
            assert got == status, (method, target, told)
            assert told["detail"], (method, target)
            assert token in (None, "local") or token not in json.dumps(told)
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert "Retry-After" in headers["Access-Control-Expose-Headers"]
            assert ("WWW-Authenticate" in headers) == (status == 401)
    for version, status in (("0", 426), ("2", 501)):
        headers = {"Reactor-API-Version": version, "Authorization": f"Bearer {web}"}
        async with http.post("/sessions", json=MODEL, headers=headers) as answer:
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "version 1" in (await answer.json())["detail"]


async def test_a_limit_counts_sessions_of_all_workers(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    wishes = scoped(constraints={"max_sessions": 2})
    limited = await mint(http, guarded.keys["web"], **wishes)
    whole = await mint(http, guarded.keys["web"])
    sibling = await mint(http, guarded.keys["web"], **scoped())
    async with session(http, limited) as first, session(http, limited) as second:
        # Each worker has one; or one has both, and the next would go to the other.
        status, told, headers = await ask(http, "POST", "/sessions", limited, MODEL)
        assert (status, headers["Retry-After"]) == (429, "5")
        assert "2 sessions" in told["detail"]
        async with session(http, whole):
            assert (await ask(http, "GET", f"/sessions/{first}", whole))[0] == 200
        assert (await ask(http, "GET", f"/sessions/{first}", sibling))[0] == 403
        assert (await ask(http, "GET", f"/sessions/{second}", limited))[0] == 200
    async with session(http, limited):
        pass


async def test_a_session_lasts_no_longer_than_its_key_allows(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    wishes = scoped(constraints={"max_session_duration_seconds": 3})
    token = await mint(http, guarded.keys["short"], **wishes)
    path = f"/sessions/{await create(http, token)}"
    async with grpc.aio.insecure_channel(guarded.stack.grpc_address) as channel:
        stub: Any = session_pb2_grpc.SessionServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        call = stub.Attach(metadata=metadata, timeout=60)
        start = session_pb2.AttachStart(session_id=path.rpartition("/")[2])
        await call.write(session_pb2.AttachRequest(start=start))
        told = [response async for response in call]
    assert "longest time" in told[-1].ended.reason
    status, shown, _ = await ask(http, "GET", path, token)
    assert (status, shown["state"]) == (200, "CLOSED")


@pytest.mark.parametrize("how", ["x-api-key", "authorization"])
async def test_grpc_takes_keys_and_tokens(
    guarded: Guarded, http: aiohttp.ClientSession, how: str
) -> None:
    async def shown(name: str) -> tuple[tuple[str, str], ...]:
        key = guarded.keys[name]
        if how == "x-api-key":
            return (("x-api-key", key),)
        wishes = {"authorization_details": [{"type": "operator"}]} if name == "ops" else {}
        return (("authorization", f"Bearer {await mint(http, key, **wishes)}"),)

    async def refusal(call: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        code: grpc.StatusCode = caught.value.code()
        return code

    async with grpc.aio.insecure_channel(guarded.stack.grpc_address) as channel:
        sessions: Any = session_pb2_grpc.SessionServiceStub(channel)
        pool: Any = pool_pb2_grpc.PoolServiceStub(channel)
        wanted = session_pb2.CreateSessionRequest(model="sana-streaming")
        described = pool_pb2.DescribePoolRequest()
        denied, unknown = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
        web, single = await shown("web"), await shown("single")
        made = await sessions.CreateSession(wanted, metadata=single)
        session_id = made.session.session_id
        mine = session_pb2.GetSessionRequest(session_id=session_id)
        try:
            assert await refusal(sessions.CreateSession(wanted, metadata=single)) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED
            )
            assert await refusal(sessions.GetSession(mine, metadata=web)) == (
                grpc.StatusCode.NOT_FOUND
            )
        finally:
            over = session_pb2.CloseSessionRequest(session_id=session_id)
            await sessions.CloseSession(over, metadata=single)
        other = await shown("other")
        assert await refusal(sessions.CreateSession(wanted, metadata=other)) == denied
        assert await refusal(pool.DescribePool(described, metadata=web)) == denied
        assert (await pool.DescribePool(described, metadata=await shown("ops"))).actors
        assert await refusal(sessions.CreateSession(wanted)) == unknown
        for wrong in (
            (("x-api-key", "rk_wrong"),),
            (("authorization", "Bearer local"),),
            (("authorization", f"Bearer {guarded.keys['web']}"),),
        ):
            assert await refusal(sessions.CreateSession(wanted, metadata=wrong)) == unknown


async def test_a_key_is_revoked_and_another_made_while_the_service_runs(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    token = await mint(http, guarded.keys["gone"])
    async with session(http, token) as session_id:
        path = f"/sessions/{session_id}"
        assert (await ask(http, "GET", path, token))[0] == 200
        command(guarded.file, "revoke", "gone")
        fresh = command(guarded.file, "new", "--id", "gone2", "--tenant", "gone")

        async def is_refused() -> bool:
            return (await ask(http, "GET", path, token))[0] == 401

        await polled(is_refused)

        async def is_known() -> bool:
            async with http.post("/tokens", headers={"Reactor-API-Key": fresh}) as answer:
                return answer.status == 200

        await polled(is_known)
        # What runs goes on: it is its tenant's.
        newer = await mint(http, fresh)
        await polled(lambda: _is_shown(http, path, newer))
        assert (await ask(http, "DELETE", path, newer))[0] == 204


async def _is_shown(http: aiohttp.ClientSession, path: str, token: str) -> bool:
    return (await ask(http, "GET", path, token))[0] == 200


async def test_a_huge_token_is_a_refusal_and_not_a_fault(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    web = await mint(http, guarded.keys["web"])
    head, _, _ = web.partition(".")
    huge = f"{head}.{base64.urlsafe_b64encode(b'x' * 3000).decode()}.{'y' * 3000}"
    assert (await ask(http, "POST", "/sessions", huge, MODEL))[0] == 401
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    forged = f"{none}.{web.split('.')[1]}."
    assert (await ask(http, "POST", "/sessions", forged, MODEL))[0] == 401


# Quotas, and users of an identity provider


async def test_quotas_hold_over_all_workers(guarded: Guarded, http: aiohttp.ClientSession) -> None:
    token = await mint(http, guarded.keys["metered"])
    sessions = [await create(http, token) for _ in range(2)]
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post("/sessions", json=MODEL, headers=headers) as answer:
        told = await answer.json()
        assert (answer.status, told["quota"]) == (429, "sessions_per_minute")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60

    async def upload(session: str, size: int) -> tuple[int, dict[str, Any]]:
        body = {"name": "a.mp4", "mime_type": "video/mp4", "size": size}
        status, told, _ = await ask(http, "POST", f"/sessions/{session}/uploads", token, body)
        return status, told

    # Whichever worker has which of them.
    assert (await upload(sessions[0], 600))[0] == 201
    status, told = await upload(sessions[1], 401)
    assert (status, told["quota"]) == (429, "uploads_per_day")
    assert (await upload(sessions[1], 400))[0] == 201
    for session in sessions:
        assert (await ask(http, "DELETE", f"/sessions/{session}", token))[0] == 204


async def test_users_of_an_identity_provider_are_tenants_beside_those_of_keys(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    def token(user: str, **told: Any) -> str:
        made = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "exp": int(time.time()) + 300}
        return guarded.provider.sign({**made, "scope": "sana:session", **told})

    mine, theirs = token("user-1"), token("user-2")
    own = await mint(http, guarded.keys["rival"])
    session = await create(http, mine)
    path = f"/sessions/{session}"
    for shown, status in ((mine, 200), (theirs, 404), (own, 404), (token("user-1", exp=1), 401)):
        assert (await ask(http, "GET", path, shown))[0] == status
    for wrong in (token("user-1", aud="other"), SigningKey("provider", "ES256").sign({"sub": "x"})):
        assert (await ask(http, "GET", path, wrong))[0] == 401
    assert (await ask(http, "POST", "/sessions", token("user-3", scope="openid"), MODEL))[0] == 403
    address = guarded.stack.grpc_address
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = session_pb2_grpc.SessionServiceStub(channel)
        found = await stub.GetSession(
            session_pb2.GetSessionRequest(session_id=session),
            metadata=(("authorization", f"Bearer {mine}"),),
        )
        assert found.session.session_id == session
    assert (await ask(http, "DELETE", path, mine))[0] == 204
