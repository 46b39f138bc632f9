"""The images, really built: on a Debian of our own in place of the bases, which are far away.

Needs root, and Debian's packages buildah and debootstrap; about ten minutes, 4 GB of disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.required import ROOT, missing, require_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PACKAGES: Final = "ca-certificates,python3.11,python3.11-venv,python3-pip"
AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASES: Final = re.findall(
    r"^ARG \w+_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE
)


class Buildah:
    """Images in a folder of their own, without a daemon."""

    def __init__(self, folder: Path) -> None:
        self._options = (
            *(f"--root={folder / 'root'}", f"--runroot={folder / 'run'}"),
            "--storage-driver=vfs",
        )

    def __call__(self, *words: str | Path, timeout: float = 1800) -> str:
        """Runs a command of buildah and returns what it printed."""
        command = [require_command("buildah"), *self._options, *map(str, words)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def build(self, target: str, *arguments: str) -> str:
        """Builds a target of the Dockerfile; returns the name of the image."""
        name = f"localhost/sana/{target}:test"
        self(
            *("bud", "--isolation=chroot", "--pull-never", "--layers=false"),
            # Where the package index is behind a proxy, the machine knows whom it may believe.
            *(f"--volume={AUTHORITIES}:{AUTHORITIES}:ro", "--target", target, "--tag", name),
            *(f"--build-arg={each}" for each in arguments),
            ".",
        )
        return name

    def run(self, image: str, *words: str) -> str:
        """Runs a command in a container of an image, as the image's user."""
        container = self("from", "--pull-never", image)
        try:
            return self("run", "--isolation=chroot", container, "--", *words)
        finally:
            self("rm", container)

    def config(self, image: str) -> dict[str, object]:
        """Returns what an image is told to run, and as whom."""
        told = json.loads(self("inspect", "--type=image", image))
        return dict(told["OCIv1"]["config"])


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """A store with a Debian under the names of the images that ours are made from."""
    if os.geteuid() != 0:
        missing("root", "run it as root")
    require_command("buildah", "install Debian's package buildah")
    bootstrap = require_command("debootstrap", "install Debian's package debootstrap")
    folder = tmp_path_factory.mktemp("images")
    base, made = folder / "base", Buildah(folder)
    command = [bootstrap, "--variant=minbase", f"--include={PACKAGES}", "bookworm", base]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    # Where the image of Python has them.
    (base / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    (base / "usr/local/bin/pip").symlink_to("/usr/bin/pip3")
    for name in BASES:
        container = made("from", "scratch")
        made("copy", "--quiet", container, base, "/")
        made("config", f"--env=PATH={PATH}", container)
        made("commit", "--quiet", container, name)
        made("rm", container)
    shutil.rmtree(base)
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def gateway(buildah: Buildah) -> str:
    return buildah.build("gateway")


@pytest.fixture(scope="module")
def pool(buildah: Buildah) -> str:
    return buildah.build("pool")


def found(buildah: Buildah, image: str, *modules: str) -> dict[str, bool]:
    """Which modules can be imported in an image."""
    code = (
        "import importlib.util, json, sys;"
        "print(json.dumps({n: bool(importlib.util.find_spec(n)) for n in sys.argv[1:]}))"
    )
    return dict(json.loads(buildah.run(image, "python", "-c", code, *modules)))


def test_the_gateways_image_serves_as_nobody(buildah: Buildah, gateway: str) -> None:
    assert (
        buildah.run(gateway, "sana-gateway", "--version") in (ROOT / "pyproject.toml").read_text()
    )
    assert "serve gateway" in buildah.run(gateway, "sana-gateway", "serve", "gateway", "--help")
    assert buildah.run(gateway, "id", "-u") == "10001"
    config = buildah.config(gateway)
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["sana-gateway"]


def test_the_gateways_image_has_neither_ray_nor_torch(buildah: Buildah, gateway: str) -> None:
    assert found(buildah, gateway, "gateway", "aiortc", "ray", "torch", "cv2", "pip") == {
        "gateway": True,
        "aiortc": True,
        "ray": False,
        "torch": False,
        "cv2": False,
        "pip": False,
    }


def test_what_the_chart_runs_in_the_gateways_image_is_there(buildah: Buildah, gateway: str) -> None:
    leaving = ("python", "-m", "gateway.leaving", "--port=1", "--at-most=1")
    assert buildah.run(gateway, *leaving) == ""
    assert "plugins" in buildah.run(gateway, "sana-gateway", "plugins")


def test_nobody_cannot_write_where_the_packages_are(buildah: Buildah, gateway: str) -> None:
    script = "touch /opt/sana-gateway/x 2>/dev/null || echo refused"
    assert buildah.run(gateway, "sh", "-c", script) == "refused"


def test_the_pools_image_has_ray_and_the_model_on_the_cpu(buildah: Buildah, pool: str) -> None:
    assert found(buildah, pool, "ray", "cv2", "torch") == {"ray": True, "cv2": True, "torch": False}
    assert "serve head" in buildah.run(pool, "sana-gateway", "serve", "head", "--help")
    # KubeRay's containers beside ours run these.
    assert "2.60.0" in buildah.run(pool, "ray", "--version")
    assert "--cluster-name" in buildah.run(pool, "ray", "kuberay-autoscaler", "--help")
    assert "--address" in buildah.run(pool, "bash", "-c", "ray health-check --help")


def test_the_actors_image_is_made_in_the_same_way(buildah: Buildah) -> None:
    # With the pool's packages in place of three gigabytes of CUDA.
    image = buildah.build("actor", "ACTOR_LOCK=requirements/images/pool.txt")
    assert buildah.run(image, "id", "-u") == "10001"
    assert "serve actor" in buildah.run(image, "sana-gateway", "serve", "actor", "--help")
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in str(buildah.config(image)["Env"])
