"""Generates what is made from the `.proto` files, or checks that it is fresh.

Two generators are used on purpose. The public stubs ship with the client package
and are made with an older grpcio-tools, so that they run on a wide range of
grpcio and protobuf releases; the internal ones follow the server's own floor. Clients in
other languages get a descriptor set: the public contract with its comments, and what it
imports, in one file.

Usage: python proto/generate.py [--check]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
DESCRIPTORS = PROTO / "sana_gateway.binpb"
"""The public contract as a `google.protobuf.FileDescriptorSet`."""
DETAILS = ("google/rpc/status.proto", "google/rpc/error_details.proto")
"""What errors of calls are made of beside `sana_gateway.v1.ErrorDetail`."""


@dataclass(frozen=True)
class Target:
    """One proto package and where its stubs live."""

    package: str
    """Folder of its `.proto` files below `root`."""
    python: Path
    """Interpreter that has the generator installed."""
    out: Path
    """Source root the stubs are written below."""
    root: Path = PROTO
    """Root of imports among `.proto` files."""
    services: bool = True
    """Whether it has any."""


TARGETS = (
    Target(
        "sana_gateway/v1",
        ROOT / ".venvs/proto-client/bin/python",
        ROOT / "sdk_adapters/python",
    ),
    Target("sana_gateway_internal/v1", Path(sys.executable), PROTO),
    # A foreign wire: its messages travel on data channels, so it has no services.
    Target("sdk_adapters/reactor", Path(sys.executable), ROOT, root=ROOT, services=False),
)


def generate(target: Target, out: Path) -> None:
    """Writes the stubs of one package below `out`."""
    sources = sorted(str(path) for path in (target.root / target.package).glob("*.proto"))
    plugins = Path(sys.executable).parent
    services = (
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
    )
    subprocess.run(
        [
            str(target.python),
            "-m",
            "grpc_tools.protoc",
            f"-I{target.root}",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--python_out={out}",
            f"--mypy_out=quiet:{out}",
            *(services if target.services else ()),
            *sources,
        ],
        check=True,
    )


def describe(out: Path) -> None:
    """Writes the descriptor set of the public contract."""
    target = TARGETS[0]
    sources = sorted((target.root / target.package).glob("*.proto"))
    subprocess.run(
        [
            str(target.python),
            "-m",
            "grpc_tools.protoc",
            f"-I{target.root}",
            # Of googleapis-common-protos, which brings the sources along.
            f"-I{sysconfig.get_path('purelib')}",
            f"--descriptor_set_out={out}",
            "--include_imports",
            "--include_source_info",
            *(str(path.relative_to(target.root)) for path in sources),
            *DETAILS,
        ],
        check=True,
    )


def is_stale_description() -> bool:
    """Tells whether the committed descriptor set differs from what the generator makes."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / DESCRIPTORS.name
        describe(fresh)
        return not DESCRIPTORS.exists() or fresh.read_bytes() != DESCRIPTORS.read_bytes()


def stubs(folder: Path) -> dict[str, str]:
    """Returns the generated files of a folder by name."""
    return {path.name: path.read_text() for path in folder.glob("*_pb2*.py*") if path.is_file()}


def stale(target: Target) -> list[str]:
    """Names the stubs of one package that differ from what the generator makes."""
    with tempfile.TemporaryDirectory() as folder:
        generate(target, Path(folder))
        fresh = stubs(Path(folder) / target.package)
    committed = stubs(target.out / target.package)
    return sorted(
        name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name)
    )


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    arguments = parser.parse_args()
    failed = False
    for target in TARGETS:
        if not arguments.check:
            generate(target, target.out)
        elif names := stale(target):
            failed = True
            print(f"stale stubs in {target.package}: {', '.join(names)}; run `make proto`")
    if not arguments.check:
        describe(DESCRIPTORS)
    elif is_stale_description():
        failed = True
        print(f"stale: {DESCRIPTORS.relative_to(ROOT)}; run `make proto`")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
