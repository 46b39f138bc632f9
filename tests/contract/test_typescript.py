"""The TypeScript client: its types, its own tests, and what `npm pack` makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.typescript.conftest import PACKAGE, install, pack
from tests.required import ROOT, require

pytestmark = pytest.mark.contract

MOST_BYTES = 12_000
"""Of the whole client in a page, minified and compressed."""
SIZE = """
import { build } from "esbuild";
import { gzipSync } from "node:zlib";
const options = { bundle: true, minify: true, format: "esm", write: false, external: ["react"] };
const made = await build({ ...options, entryPoints: [process.argv[1]] });
console.log(gzipSync(made.outputFiles[0].contents, { level: 9 }).length);
"""
PLAIN = """
import { SanaStreamingModel, VERSION } from "@sana-gateway/client";
const model = new SanaStreamingModel();
const refused = await model.start().catch((error) => error.code);
console.log(JSON.stringify([VERSION, model.status, refused]));
"""


def node(*words: str | Path, cwd: Path = PACKAGE, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs Node; the packages of the client are there."""
    require(PACKAGE / "node_modules/.setup")
    return subprocess.run(
        [require(".tools/bin/node"), *words],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def passes(done: subprocess.CompletedProcess[str]) -> str:
    """Returns what a command printed; fails with it unless it succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the packed client among its packages."""
    folder = tmp_path_factory.mktemp("app")
    install(pack(folder), folder)
    return folder


@pytest.mark.parametrize("project", ["tsconfig.test.json", "../../tests/e2e/typescript"])
def test_the_types_are_right(project: str) -> None:
    passes(node("node_modules/typescript/bin/tsc", "-p", project))


def test_its_own_tests_pass() -> None:
    print(passes(node("node_modules/vitest/vitest.mjs", "run", "--reporter=default")))


def test_its_words_are_those_of_the_contract() -> None:
    # To renew them: make proto
    done = subprocess.run(
        [sys.executable, PACKAGE / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    passes(done)


def test_the_package_holds_modules_types_and_words_for_its_users(app: Path) -> None:
    package = app / "node_modules/@sana-gateway/client"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    modules = {path.relative_to(PACKAGE / "src") for path in (PACKAGE / "src").rglob("*.ts")}
    built = {f"dist/{path.with_suffix('')}{kind}" for path in modules for kind in (".js", ".d.ts")}
    assert files == {*built, "package.json", "README.md"}
    about = json.loads((package / "package.json").read_text())
    assert "dependencies" not in about
    assert about["sideEffects"] is False
    for entry in about["exports"].values():
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            assert (package / target).is_file()


def test_it_runs_in_plain_node_without_react(app: Path) -> None:
    said = json.loads(passes(node("--input-type=module", "--eval", PLAIN, cwd=app)))
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    assert said == [version, "disconnected", "not_connected"]


@pytest.mark.parametrize("entry", ["index.js", "react/index.js"])
def test_it_stays_small(app: Path, entry: str) -> None:
    path = app / "node_modules/@sana-gateway/client/dist" / entry
    size = int(passes(node("--input-type=module", "--eval", SIZE, "--", path)))
    print(f"{entry}: {size} bytes")
    assert size < MOST_BYTES


def test_it_has_the_version_of_the_service() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    assert f'\nversion = "{version}"\n' in pyproject
