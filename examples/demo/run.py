"""`make demo`: the whole service on this machine, edited video out, nothing left running.

Starts the stack as `sana-gateway serve` does (Ray included, model `painter`, no GPU),
drives one file-mode and one live-mode session over real WebRTC with an unmodified
Reactor client, and writes what came back below `demo-out/`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contact_sheet import contact_sheet

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
START_TIMEOUT_S = 120
FILE_PROMPTS = (
    "Van Gogh oil painting, swirling brushstrokes, vivid colors",
    "a pencil sketch on rough paper",
)
LIVE_PROMPTS = ("a neon city at night", "a soft watercolour")


@contextmanager
def served(log: Path) -> Iterator[str]:
    """Runs `sana-gateway serve` and yields its URL; ends it and all it started."""
    with tempfile.TemporaryDirectory(prefix="sana-demo-") as folder:
        ready = Path(folder) / "ready"
        os.mkfifo(ready)
        command = [
            sys.executable, "-m", "gateway.cli", "serve", "--model", "painter",
            "--http-port", "0", "--grpc-port", "0", "--ready-file", str(ready),
        ]  # fmt: skip
        with log.open("w") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=ROOT)
        try:
            yield json.loads(_first_line(ready, process, log))["http"]
        finally:
            process.terminate()
            process.wait(timeout=60)


def _first_line(ready: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """Reads the addresses from the pipe, unless the process ends first."""
    line: list[str] = []
    reader = threading.Thread(target=lambda: line.append(ready.read_text()), daemon=True)
    reader.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while reader.is_alive() and process.poll() is None and time.monotonic() < deadline:
        reader.join(0.2)
    if not line:
        raise SystemExit(f"the service did not start; its last words:\n{_tail(log)}")
    return line[0]


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def drive(
    python: Path, flow: str, url: str, clip: Path, out: Path, prompts: tuple[str, str]
) -> dict:
    """Runs the client for one session and returns its report."""
    report = out / f"{flow}.json"
    video = out / ("edited.mp4" if flow == "file" else "live.mp4")
    command = [str(python), str(HERE / "client.py"), flow, url, str(clip), str(video), str(report)]
    subprocess.run([*command, *prompts], check=True, timeout=300)
    result = json.loads(report.read_text())
    report.unlink()
    return {**result, "video": video.name}


def bundled_clip(out: Path) -> Path:
    """Renders the bundled clip."""
    clip = out / "source.mp4"
    subprocess.run([sys.executable, str(HERE / "scene.py"), str(clip)], check=True)
    return clip


def main() -> int:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, help="a video of one's own, at least 33 frames")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out")
    parser.add_argument(
        "--client-python", type=Path, default=ROOT / ".venvs/reactor-native/bin/python",
        help="interpreter that has reactor-sdk",
    )  # fmt: skip
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()

    print("1/4  source clip")
    clip = arguments.clip or bundled_clip(out)
    if not clip.is_file():
        raise SystemExit(f"there is no file {clip}")
    print("2/4  starting gateway, scheduler and model actor (Ray, painter, CPU)")
    with served(out / "serve.log") as url:
        started_s = time.monotonic() - begin
        print(f"     serving at {url}")
        print("3/4  file mode: an uploaded clip, the prompt changes midway")
        file = drive(arguments.client_python, "file", url, clip, out, FILE_PROMPTS)
        print("4/4  live mode: a camera, the prompt changes midway")
        live = drive(arguments.client_python, "live", url, clip, out, LIVE_PROMPTS)
    contact_sheet(clip, out / "edited.mp4", out / "contact-sheet.png")
    report = {"started_s": round(started_s, 1), "wall_s": round(time.monotonic() - begin, 1),
              "file": file, "live": live}  # fmt: skip
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    complete = not file["frames_missing"] and not file["errors"]
    print(
        f"\nfile mode: {file['frames_received']} of {file['frames_expected']} frames, "
        f"first after {file['start_to_first_frame_s']} s; "
        f"live mode: {live['frames_received']} of {live['frames_expected']} frames\n"
        f"look at  {out / 'contact-sheet.png'}   (source over result)\n"
        f"         {out / 'edited.mp4'}\n"
        f"         {out / 'live.mp4'}\n"
        f"         {out / 'report.json'}"
    )
    return 0 if complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
