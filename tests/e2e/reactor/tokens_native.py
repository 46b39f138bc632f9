"""Shows keys and tokens through `reactor-sdk` 1.x. Runs in its own environment.

    python tokens_native.py PLAN

PLAN is JSON: the URL, keys by name, and a token that has expired. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

from reactor_sdk import AuthError, Reactor, ReactorError, fetch_jwt

MODEL = "sana-streaming"


async def refused(asking: Awaitable[Any]) -> dict[str, Any]:
    """Returns how something was refused."""
    try:
        await asking
    except AuthError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except ReactorError as error:
        kinds = ("code", "status", "recoverable", "retry_after_ms")
        return {"error": type(error).__name__, **{kind: getattr(error, kind) for kind in kinds}}
    return {"error": None}


async def main(plan: dict[str, Any]) -> dict[str, Any]:
    """Goes through all cases; returns what was seen of each."""
    url, keys, seen = plan["url"], plan["keys"], {}
    clients: list[Reactor] = []

    def client(**credentials: Any) -> Reactor:
        clients.append(Reactor(MODEL, api_url=url, **credentials))
        return clients[-1]

    async def token(**wishes: Any) -> str:
        return await asyncio.to_thread(fetch_jwt, keys["web"], url, **wishes)

    first = client(api_key=keys["web"])
    await first.connect()
    seen["connect"] = first.status.value

    second = client(api_key=keys["web"])
    await second.connect(session_id=first.session_id)
    seen["join"] = second.status.value

    seen["wrong key"] = await refused(client(api_key=keys["wrong"]).connect())
    seen["expired token"] = await refused(client(jwt=plan["expired"]).connect())
    seen["key as token"] = await refused(client(jwt=keys["web"]).connect())
    seen["other model"] = await refused(client(api_key=keys["other"]).connect())
    bound = await token(sessions=[first.session_id])
    seen["bound creates"] = await refused(client(jwt=bound).connect())
    foreign = await token(models=[MODEL])
    seen["not its session"] = await refused(
        client(jwt=foreign).connect(session_id=first.session_id)
    )
    seen["senseless"] = await refused(token(models=[MODEL], max_session_duration_seconds=10**6))

    single = client(api_key=keys["single"])
    await single.connect()
    seen["one too many"] = await refused(client(api_key=keys["single"]).connect())

    for each in clients:
        if each.status == "ready":
            await each.disconnect()
        each.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
