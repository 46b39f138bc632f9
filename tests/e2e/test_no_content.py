"""What users bring stays theirs: no prompt and no file name in any log, at any level."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from sana_gateway import Client, CommandRejected
from tests.e2e.driving import SIMULATED, Told, stage, stage_another, watching
from tests.stack import serving

pytestmark = pytest.mark.e2e

PROMPT = "quetzalcoatl in marzipan"
NAME = "grandmother-xylophone"


async def test_neither_prompt_nor_file_name_is_ever_logged(clip: Path, tmp_path: Path) -> None:
    named = tmp_path / f"{NAME}.mp4"
    named.write_bytes(clip.read_bytes())
    broken = tmp_path / f"{NAME}-broken.mp4"
    broken.write_text("no video")
    with serving(*SIMULATED, "--log-level", "debug") as running:
        async with (
            Client(running.grpc_address) as client,
            await client.create_session("simulated") as session,
        ):
            told = Told(session)
            await stage(session, named, PROMPT)
            refused = await stage_another(session, told, broken)
            assert refused.reason
            with pytest.raises(CommandRejected):
                await session.set_prompt(PROMPT * 1000)
            async with watching(client, session) as screen:
                await session.start()
                await session.set_prompt(f"{PROMPT} and more")
                await screen.until(lambda: screen.items)
                await session.reset()
        await over_http(running.http_url)
        running.stop()
        log = running.log.read_text()
    assert session.session_id in log, "there is a log"
    assert '"level": "debug"' in log
    for private in (PROMPT, NAME, *PROMPT.split()[::2]):
        assert private not in log


async def over_http(url: str) -> None:
    """Uploads, and sends nonsense that holds private words."""
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/sessions", json={"model": {"name": "simulated"}}) as response:
            session_id = (await response.json())["session_id"]
        slot = {"name": f"{NAME}.mp4", "mime_type": "video/mp4", "size": 10}
        async with http.post(f"/sessions/{session_id}/uploads", json=slot) as response:
            made = await response.json()
        async with http.put(made["presigned_url"], data=bytes(7)) as response:
            assert response.status == 400
        async with http.post("/sessions", data=f'{{"model": "{PROMPT}') as response:
            assert response.status == 400
        async with http.post("/sessions", json={"model": {"name": PROMPT}}) as response:
            assert response.status == 404
