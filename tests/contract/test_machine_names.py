"""Nothing in the repository is tied to the machine or the registry it was made with."""

from __future__ import annotations

import json
import re
from typing import Final

import pytest

from tests.contract import repository

pytestmark = pytest.mark.contract

# Written so that the patterns do not match themselves.
PATHS: Final = re.compile(r"(?<![\w.])/(?:(?:work|farm|root)/[a-z.]|opt/(?:pypi|wheels)|tmp/w/)")
HOSTS: Final = re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|yarnpkg)\.(?:org|com|net)\b")


def hits(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in repository.files():
        for number, line in enumerate((repository.text_of(path) or "").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path}:{number}")
    return found


@pytest.mark.parametrize(
    ("pattern", "sample"),
    [
        (PATHS, "see /" + "work/main/x"),
        (PATHS, "file:///" + "opt/wheels/x"),
        (HOSTS, "https://" + "pypi" + ".org/simple"),
        (HOSTS, "https://registry." + "npmjs" + ".org/"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], sample: str) -> None:
    assert pattern.search(sample)


def test_no_file_holds_a_path_of_a_developers_machine() -> None:
    assert hits(PATHS) == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert hits(HOSTS) == []


def test_no_lock_file_of_npm_says_where_packages_came_from() -> None:
    for path in repository.files():
        if path.name == "package-lock.json":
            packages = json.loads(repository.text_of(path) or "{}")["packages"]
            assert not [name for name, entry in packages.items() if "resolved" in entry]


def test_constraints_pin_every_package_and_no_place() -> None:
    (path,) = (path for path in repository.files() if path.name == "constraints.txt")
    lines = [line for line in (repository.text_of(path) or "").splitlines() if line[:1] != "#"]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9_.-]+==[\w.!]+", line)] == []
