"""The Dockerfile and the locked packages of its images."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.contract import repository
from tests.required import ROOT, require
from tools import image_locks

pytestmark = pytest.mark.contract

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
IMAGES = ("build", *image_locks.EXTRAS)


def pins(path: str | Path) -> dict[str, str]:
    """Returns the pinned versions of a file, by normalised name."""
    found = PIN.finditer((ROOT / path).read_text())
    return {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in found}


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say() -> None:
    command = [require(".venvs/helm/bin/hadolint"), ROOT / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_every_package_of_an_image_has_a_hash(image: str) -> None:
    text = (image_locks.FOLDER / f"{image}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [each.split()[0] for each in entries if "--hash=sha256:" not in each] == []


@pytest.mark.parametrize("image", IMAGES)
def test_images_have_the_versions_that_the_tests_ran_with(image: str) -> None:
    tested = {
        name: version for path in image_locks.CONSTRAINTS for name, version in pins(path).items()
    }
    locked = pins(image_locks.FOLDER / f"{image}.txt")
    other = {name: version for name, version in locked.items() if tested.get(name) != version}
    # What torch needs of NVIDIA's is in no environment of the tests: it has none of their GPUs.
    nvidia = re.compile(r"nvidia-.*|cuda-.*|triton|torch")
    assert {name: version for name, version in other.items() if not nvidia.fullmatch(name)} == {}
    assert image == "actor" or not other


@pytest.mark.parametrize("image", image_locks.EXTRAS)
def test_images_have_what_the_distribution_asks_for(image: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    base = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert base is not None
    wanted = re.findall(r'"([A-Za-z0-9-]+)', base[1])
    for extra in image_locks.EXTRAS[image].split(","):
        found = re.search(rf"^{extra} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
        assert found is not None, extra
        wanted += re.findall(r'"([A-Za-z0-9-]+)', found[1])
    locked = pins(image_locks.FOLDER / f"{image}.txt")
    missing = {name.lower() for name in wanted} - locked.keys() - set(image_locks.OURS)
    assert missing == set(), "run `python -m tools.image_locks`"


def test_gateways_have_neither_ray_nor_torch_nor_opencv() -> None:
    locked = pins(image_locks.FOLDER / "gateway.txt")
    assert {"ray", "torch", "opencv-python-headless"}.isdisjoint(locked)
    assert "ray" in pins(image_locks.FOLDER / "pool.txt")
    assert {"ray", "torch", "diffusers"} <= pins(image_locks.FOLDER / "actor.txt").keys()


def test_every_image_ends_as_nobody_with_our_command() -> None:
    stages = re.split(r"^(?=FROM )", dockerfile(), flags=re.MULTILINE)
    named = {each.split()[3]: each for each in stages[1:] if " AS " in each.splitlines()[0]}
    assert {"gateway", "pool", "actor"} <= named.keys()
    for role in ("gateway", "pool"):
        assert named[role].startswith("FROM role AS")
        assert "USER" not in named[role]
    for base in ("role", "actor"):
        assert re.findall(r"^USER (.*)$", named[base], re.MULTILINE)[-1] == "10001:10001"
        assert 'ENTRYPOINT ["sana-gateway"]' in named[base]


def test_what_is_copied_is_in_the_context_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(), re.MULTILINE):
        copied |= {each for each in line.split()[:-1] if not each.startswith("$")}
    assert {each for each in copied if not any(each.startswith(name) for name in let_in)} == set()
    tracked = {str(path) for path in repository.files()}
    assert all(any(path.startswith(name) for path in tracked) for name in let_in)
