"""Shows keys through `reactor-sdk` 0.8, which knows no tokens. Runs in its own environment.

    python tokens_py08.py PLAN

PLAN is JSON: the URL, and keys by name. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from reactor_sdk import Reactor, ReactorStatus

MODEL = "sana-streaming"


async def ready(client: Reactor, session_id: str | None = None) -> str:
    """Connects; returns the status that it comes to."""
    reached = asyncio.Event()
    client.on("status_changed", lambda status: status == ReactorStatus.READY and reached.set())
    await client.connect(session_id=session_id)
    async with asyncio.timeout(40):
        await reached.wait()
    return str(client.get_status().value)


async def refused(client: Reactor) -> dict[str, Any]:
    """Returns how a connect was refused."""
    errors: list[Any] = []
    client.on("error", errors.append)
    try:
        await client.connect()
    except RuntimeError as error:
        return {"text": str(error), "events": [each.code for each in errors]}
    finally:
        await client.disconnect()
    return {"text": None}


async def main(plan: dict[str, Any]) -> dict[str, Any]:
    """Goes through all cases; returns what was seen of each."""
    keys, seen = plan["keys"], {}

    def client(key: str) -> Reactor:
        return Reactor(model_name=MODEL, api_key=keys[key], api_url=plan["url"])

    short, told = client("short"), asyncio.Event()
    said: list[str] = []

    def heard(message: dict[str, Any]) -> None:
        said.append(message["type"])

    def status(now: ReactorStatus) -> None:
        said.append(str(now.value))
        if now == ReactorStatus.DISCONNECTED:
            told.set()

    short.on("runtime_message", heard)
    short.on("status_changed", status)
    await ready(short)

    first, second, single = client("web"), client("web"), client("single")
    seen["connect"] = await ready(first)
    seen["join"] = await ready(second, first.get_session_id())
    seen["wrong key"] = await refused(client("wrong"))
    seen["other model"] = await refused(client("other"))
    await ready(single)
    seen["one too many"] = await refused(client("single"))
    async with asyncio.timeout(40):
        await told.wait()
    seen["longest time"] = said
    for each in (first, second, single, short):
        await each.disconnect()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
