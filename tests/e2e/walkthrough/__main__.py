"""Takes the pictures that the docs show anew: `python -m tests.e2e.walkthrough`.

The playground is shown with the model `painter`, the console with the busy pool of
`tests/fakes/busy_pool.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.browser.chromium import Browser
from tests.e2e.walkthrough.scene import Film, write_camera, write_clip
from tests.e2e.walkthrough.shots import take_console, take_playground
from tests.required import ROOT
from tests.stack import serving

FILM = Film(1280, 704, seconds=58, lamps=False)


@contextmanager
def busy_pool() -> Iterator[str]:
    """Runs the busy pool; yields its address."""
    command = [sys.executable, "-m", "tests.fakes.busy_pool", "--http-port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.stdin.close()
            process.wait(60)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.walkthrough", description=__doc__)
    parser.add_argument("--screenshots", type=Path, default=ROOT / "docs/images", metavar="FOLDER")
    parser.add_argument("--only", choices=("playground", "console"))
    given = parser.parse_args()
    folder: Path = given.screenshots
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Browser(trusting=False) as browser:
        if given.only != "console":
            camera = write_camera(Path(scratch) / "camera.y4m", FILM)
            clip = write_clip(Path(scratch) / "harbour.mp4", camera)
            with serving("--model", "painter", "--backend", "in-process", "--degrade") as service:
                take_playground(browser, service.http_url, clip, folder)
        if given.only != "playground":
            with busy_pool() as url:
                take_console(browser, url, folder)
    for path in sorted(folder.glob("*.png")):
        print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
