"""The built pages, in memory: files of a folder, and how browsers are told to treat them.

Names below `assets/` carry a digest of what they hold and may be kept for ever; the pages
themselves are asked for again each time, with an entity tag. What compresses is compressed
once. The policy lets a page run our scripts and nothing else: no inline code, no other
origin, no frame around it.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

DIST: Final = Path(__file__).parent / "dist"
PAGES: Final[Mapping[str, str]] = {"/": "index.html", "/console": "console/index.html"}
"""The pages by their paths."""
ASSETS: Final = "/assets/"

TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What the build makes, by its suffix."""

FOREVER: Final = "public, max-age=31536000, immutable"
CHECKED: Final = "no-cache"
"""Kept, but asked for each time whether it has changed."""

SOURCES: Final[Mapping[str, str]] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""The Content-Security-Policy."""
POLICY: Final[Mapping[str, str]] = {
    "Permissions-Policy": (
        "camera=(self), display-capture=(self), fullscreen=(self), microphone=(), geolocation=()"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every file is served with besides."""


@dataclass(frozen=True, slots=True)
class Served:
    """A file, ready to be sent."""

    body: bytes
    packed: bytes | None
    """The same, gzipped; None where that saves nothing."""
    headers: Mapping[str, str]
    tag: str
    """Its entity tag, quoted."""


def is_page(path: str) -> bool:
    """Tells whether a path is one of the pages or their assets: open to who may not call, too.

    A page that may not call says so itself.
    """
    return path in PAGES or path.startswith(ASSETS)


class Pages:
    """Answers requests for pages and their assets."""

    def __init__(self, folder: Path = DIST, *, public_url: str | None = None) -> None:
        """Reads all files.

        Args:
            folder: What `vite build` made.
            public_url: Where clients reach the service, where that is another origin than the
                pages': uploads go there.
        """
        sources = dict(SOURCES)
        if public_url is not None:
            asked = urlsplit(public_url)
            sources["connect-src"] += f" {asked.scheme}://{asked.netloc}"
        policy = "; ".join(f"{name} {value}" for name, value in sources.items())
        headers = {**POLICY, "Content-Security-Policy": policy}
        self._files = {
            path: _served(folder / name, {**headers, "Cache-Control": CHECKED})
            for path, name in PAGES.items()
        }
        for path in sorted(folder.glob("assets/*")):
            self._files[ASSETS + path.name] = _served(path, {**headers, "Cache-Control": FOREVER})

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Returns what to mount: the pages, and one route for all assets."""
        return [web.get(path, self._answer) for path in (*PAGES, ASSETS + "{name}")]

    def find(self, request: web.BaseRequest) -> web.Response | None:
        """Returns the answer to a request for one of the files; None: it is for something else.

        Raises:
            HTTPNotFound: It is for an asset that there is not.
        """
        served = self._files.get(request.path)
        if request.method not in ("GET", "HEAD"):
            return None
        if served is None:
            if is_page(request.path):
                raise web.HTTPNotFound
            return None
        headers = {**served.headers, "ETag": served.tag, "Vary": "Accept-Encoding"}
        if served.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        body = served.body
        if served.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = served.packed, "gzip"
        return web.Response(body=body, headers=headers)

    async def _answer(self, request: web.Request) -> web.Response:
        response = self.find(request)
        if response is None:
            raise web.HTTPNotFound
        return response


def _served(path: Path, headers: Mapping[str, str]) -> Served:
    body = path.read_bytes()
    # Without a time in it: the same file has the same bytes everywhere.
    packed = gzip.compress(body, 9, mtime=0)
    return Served(
        body=body,
        packed=packed if len(packed) < len(body) else None,
        headers={**headers, "Content-Type": TYPES[path.suffix]},
        tag=f'"{hashlib.sha256(body).hexdigest()[:20]}"',
    )
