"""`examples/javascript` as a user runs it: its own server, an API key, a page with a camera.

And what the same service says to a page that has no token, or a wrong one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.browser.chromium import Browser, Page
from tests.e2e.driving import FULL_SIZE
from tests.e2e.reactor.js.conftest import PACKAGES, SDK, WIRE, refused
from tests.e2e.reactor.matrix import record
from tests.required import ROOT, require
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

KEYS = {name: "rk_" + name[0] * 43 for name in ("example", "single", "painter")}
"""API keys: one that may do all, one for one session, one for another model."""
KEY = KEYS["example"]
LIMITS = {"single": {"max_sessions": 1}, "painter": {"models": ["painter"]}}
MODEL = {"model": {"name": "sana-streaming"}}
EXAMPLE = ROOT / "examples/javascript"
WATCH = """
new Promise((done) => {
  const video = document.querySelector("video"), small = new OffscreenCanvas(64, 36);
  const context = small.getContext("2d", { willReadFrequently: true });
  const sizes = new Set(), pictures = new Set();
  let count = 0;
  const look = (_, { width, height }) => {
    sizes.add(`${width}x${height}`);
    context.drawImage(video, 0, 0, 64, 36);
    const luma = context.getImageData(0, 0, 64, 36).data.filter((_, index) => index % 4 === 1);
    if (Math.max(...luma) - Math.min(...luma) > 64) pictures.add(luma.join());
    if (++count >= 30) done({ sizes: [...sizes], pictures: pictures.size });
    else video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
})
"""
"""Looks at thirty pictures on the screen: their sizes, and how many different ones are not flat."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that wants API keys."""
    folder = tmp_path_factory.mktemp("keys")
    entries = [
        {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": name}
        | LIMITS.get(name, {})
        for name, key in KEYS.items()
    ]
    (folder / "keys.yaml").write_text(json.dumps({"keys": entries}))
    (folder / "keys.yaml").chmod(0o600)
    (folder / "secret").write_text("s" * 64)
    (folder / "secret").chmod(0o600)
    (folder / "gateway.toml").write_text(
        f'auth = "api-key"\napi_keys = "{folder}/keys.yaml"\ntoken_secret = "{folder}/secret"\n'
    )
    with serving(*FULL_SIZE, "--config", str(folder / "gateway.toml")) as running:
        yield running


@contextmanager
def example(folder: Path, **environment: str) -> Iterator[str]:
    """Runs the example's server; yields its address."""
    app = folder / "app"
    shutil.copytree(EXAMPLE, app, ignore=shutil.ignore_patterns("node_modules"))
    (app / "node_modules").symlink_to(require(PACKAGES))
    command = [require(".tools/bin/node"), "server.mjs"]
    settings = {**os.environ, **environment, "PORT": "0"}
    with subprocess.Popen(
        command, cwd=app, env=settings, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://localhost:"), "it says where it listens"
            yield address
        finally:
            process.kill()


def test_the_documented_example_runs_word_for_word(
    browser: Browser, guarded: Stack, tmp_path: Path
) -> None:
    environment = {"SANA_GATEWAY_URL": guarded.http_url + "/", "SANA_GATEWAY_API_KEY": KEY}
    with example(tmp_path, **environment) as address, browser.open("about:blank") as page:
        page.allow_camera(address)
        page.go(address)
        seen: dict[str, Any] = page.run(WATCH)
        assert seen["sizes"][0] == "1280x704"
        assert seen["pictures"] > 10, "pictures that change, and are not black"
        assert not [line for line in page.said if "rror" in line]


def test_without_a_key_the_example_says_what_is_wrong(
    browser: Browser, guarded: Stack, tmp_path: Path
) -> None:
    with (
        example(tmp_path, SANA_GATEWAY_URL=guarded.http_url) as address,
        browser.open(address) as page,
    ):
        wait_for_words(page, "no token: 401")


def wait_for_words(page: Page, words: str) -> None:
    """Waits until a page has said something."""
    for _ in range(600):
        if any(words in line for line in page.said):
            return
        page.run("new Promise((done) => setTimeout(done, 50))")
    raise AssertionError(f"it does not say {words!r}: {page.said}")


@pytest.mark.parametrize("client", [SDK, WIRE])
def test_a_wrong_token_is_refused_in_both_modes(
    browser: Browser, site: str, guarded: Stack, client: str
) -> None:
    with browser.open(site) as page:
        for mode in ("cloud", "local"):
            with record(client, mode, "errors"):
                refusal = refused(page, client, guarded.http_url, mode, token="wrong")
                assert refusal.code == "CONNECTION_FAILED"
                assert "401" in refusal.message


async def asked(service: Stack, method: str, path: str, **headers: str) -> dict[str, Any]:
    """Asks the service, as an app's server does; returns what it answers."""
    body = MODEL if path == "/sessions" else None
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(service.http_url) as http,
        http.request(method, path, json=body, headers=sent) as answer,
    ):
        assert answer.ok, await answer.text()
        told: dict[str, Any] = await answer.json() if answer.status in (200, 201) else {}
        return told


@pytest.fixture
def tokens(guarded: Stack) -> Iterator[dict[str, str]]:
    """Tokens that allow too little: the one session of `single` is taken."""
    minted = {
        name: ask(guarded, "POST", "/tokens", {"Reactor-API-Key": KEYS[name]})["jwt"]
        for name in LIMITS
    }
    bearer = {"Authorization": f"Bearer {minted['single']}"}
    session_id = ask(guarded, "POST", "/sessions", bearer, MODEL)["session_id"]
    yield minted
    ask(guarded, "DELETE", f"/sessions/{session_id}", bearer)


def ask(
    service: Stack, method: str, path: str, headers: dict[str, str], body: object = None
) -> dict[str, Any]:
    """Asks the service, as an app's server does; returns what it answers."""

    async def answered() -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(service.http_url) as http,
            http.request(method, path, json=body, headers=headers) as answer,
        ):
            assert answer.ok, await answer.text()
            return dict(json.loads(await answer.text() or "{}"))

    return asyncio.run(answered())


@pytest.mark.parametrize("client", [SDK, WIRE])
def test_a_token_that_allows_too_little_is_refused(
    browser: Browser, site: str, guarded: Stack, tokens: dict[str, str], client: str
) -> None:
    with browser.open(site) as page, record(client, "cloud", "errors"):
        for name, status in (("painter", 403), ("single", 429)):
            refusal = refused(page, client, guarded.http_url, "cloud", token=tokens[name])
            assert refusal.code == "CONNECTION_FAILED"
            assert str(status) in refusal.message
            assert str(status) in refusal.thrown
        last = page.run("seen.requests.at(-1)")
        assert (last["status"], last["retryAfter"]) == (429, "5")
