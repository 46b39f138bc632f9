"""Asks a service without room for a session, with `reactor-sdk` 1.x. Runs in its own environment.

    python full_native.py URL

Prints one JSON line: what it was told, by mode.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from reactor_sdk import Reactor, ReactorError


async def refusal(url: str, **how: Any) -> dict[str, Any] | None:
    """Returns what an app is told that connects; None when it is let in."""
    reactor = Reactor("sana-streaming", "rk_any", api_url=url, **how)
    try:
        await reactor.connect()
    except ReactorError as error:
        kinds = ("code", "status", "recoverable", "retry_after_ms")
        return {"text": str(error), **{kind: getattr(error, kind) for kind in kinds}}
    finally:
        reactor.close()
    return None


async def main(url: str) -> dict[str, Any]:
    """Connects in both modes."""
    return {"cloud": await refusal(url), "local": await refusal(url, local=True)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
