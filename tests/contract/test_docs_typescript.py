"""TypeScript and JavaScript in the documents is right: one look of the compiler at all of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.contract import documents
from tests.required import ROOT, require

pytestmark = pytest.mark.contract

PACKAGE = ROOT / "sdk_adapters/typescript"
EXAMPLE = ROOT / "examples/node-grpc/gateway.js"
FOREIGN = ("@reactor-team/js-sdk", "@grpc/grpc-js", "@grpc/proto-loader")
AROUND = """
import type { SanaStreamingModel as Model } from "@sana-gateway/client";
import type { Reactor as Theirs } from "@reactor-team/js-sdk";
declare global {
  const model: Model;
  const SanaStreamingModel: typeof Model;
  const Reactor: typeof Theirs;
  const apiUrl: string;
  const getToken: () => Promise<string>;
  const file: File;
  const bar: HTMLProgressElement;
}
"""
"""What the code in the documents stands in."""


def project(folder: Path) -> list[str]:
    """Writes the blocks of all pages into a folder as a project; returns where they are from."""
    (folder / "around.d.ts").write_text(AROUND)
    (folder / "gateway.js").write_text(EXAMPLE.read_text())
    found = []
    for number, (place, block) in enumerate(documents.blocks("ts", "tsx", "js")):
        found.append(str(place))
        code = f"// {place}\n{block.text}\nexport {{}};\n"
        (folder / f"{number}.{block.language}").write_text(code)
    sources, types = PACKAGE / "src", PACKAGE / "node_modules/@types"
    foreign = require(".tools/node/node_modules")
    options = {
        "noEmit": True,
        "noUnusedLocals": False,
        "noUnusedParameters": False,
        "allowJs": True,
        "rootDir": "/",
        "jsx": "react-jsx",
        "module": "ESNext",
        "moduleResolution": "Bundler",
        "typeRoots": [str(types)],
        "types": ["node"],
        "paths": {
            "@sana-gateway/client": [str(sources / "index.ts")],
            "@sana-gateway/client/react": [str(sources / "react/index.ts")],
            "react": [str(types / "react")],
            "react/jsx-runtime": [str(types / "react/jsx-runtime")],
            **{name: [str(foreign / name)] for name in FOREIGN},
        },
    }
    written = {
        "extends": str(PACKAGE / "tsconfig.json"),
        "compilerOptions": options,
        "include": [str(folder)],
    }
    (folder / "tsconfig.json").write_text(json.dumps(written))
    return found


def compiled(folder: Path) -> subprocess.CompletedProcess[str]:
    require(PACKAGE / "node_modules/.setup")
    compiler = PACKAGE / "node_modules/typescript/bin/tsc"
    return subprocess.run(
        [require(".tools/bin/node"), compiler, "-p", folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_code_in_the_documents_is_right(tmp_path: Path) -> None:
    places = project(tmp_path)
    assert {place.partition(":")[0] for place in places} >= {
        "README.md",
        "docs/grpc.md",
        "docs/reactor.md",
        "docs/typescript.md",
        "sdk_adapters/typescript/README.md",
    }
    # One that is wrong shows that the compiler looks.
    wrong = tmp_path / "wrong.ts"
    wrong.write_text('void model.setMode("sideways");\nexport {};\n')
    done = compiled(tmp_path)
    assert "wrong.ts" in done.stdout
    others = [
        line for line in done.stdout.splitlines() if "error TS" in line and "wrong.ts" not in line
    ]
    assert others == [], done.stdout
