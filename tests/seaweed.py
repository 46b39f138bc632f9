"""A real service of the S3 protocol: SeaweedFS, one program in a wheel."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

KEYS: Final = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"}
"""What its one user shows, as variables."""
BUCKET: Final = "sana"
START_S: Final = 60.0
_WEED: Final = Path(sys.executable).parent / "weed"


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """Runs the service in a folder; yields its URL. Buckets are made by what is put into them."""
    credentials = [
        {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    ]
    user = {"name": "test", "credentials": credentials, "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
    (folder / "data").mkdir()
    master, volume, filer, s3 = _free_ports(4)
    words = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "master.port": master,
        "master.volumeSizeLimitMB": 64,
        "volume.port": volume,
        "volume.max": 8,
        "filer.port": filer,
        "s3.port": s3,
        "s3.config": folder / "s3.json",
        # Other services of it, on fixed ports.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "filer.localSocket": folder / "filer.sock",
        "s3.localSocket": folder / "s3.sock",
        "master.telemetry": "false",
    }
    command = [str(_WEED), "server", "-s3", *(f"-{name}={value}" for name, value in words.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while not all(map(_answers, (s3, filer, volume))):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the service does not come up"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{s3}"
    finally:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Free ports whose neighbours 10,000 above are free, too: weed takes those for gRPC."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + 10_000 < 65_536 and other.connect_ex(("127.0.0.1", port + 10_000)):
                found.append(port)
    return found


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
