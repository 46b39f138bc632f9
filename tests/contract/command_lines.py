"""What can be wrong with a command in a document. Nothing is run."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from google.protobuf import json_format

from sana_gateway.v1 import event_pb2, pool_pb2, replay_pb2, session_pb2, usage_pb2
from scheduler.core.commands import NAMES
from tests.contract import repository
from tests.e2e.isolation.http_table import ROUTES
from tests.required import ROOT
from tools.docs.command_line import root as command_line
from tools.docs.protobuf import files

OURS: Final = re.compile(r"^https?://(?:[^/]*:8080|HOST)(?:/|$)")
"""Addresses of a gateway, as documents write them."""
_PLACEHOLDER: Final = re.compile(r"[A-Z][A-Z_]*|\$.*|\.\.\.|.*\.\.\..*")
_METHOD: Final = re.compile(r"(?:^|/)(?:sana_gateway\.v1\.)?(\w+Service)/(\w+)$")
_SERVICES: Final = {
    name: service
    for file in (event_pb2, pool_pb2, replay_pb2, session_pb2, usage_pb2)
    for name, service in file.DESCRIPTOR.services_by_name.items()
}
Faults = Iterator[str]


def faults(words: Sequence[str]) -> Faults:
    """Yields what is wrong with a command."""
    program = words[0].rpartition("/")[2]
    judge = _JUDGES.get(re.sub(r"^python3(\.\d+)?$", "python", program))
    if judge is not None:
        yield from judge(words[1:])
    yield from _paths(words)


def _ours(words: Sequence[str]) -> Faults:
    """Follows a command line of ours down its commands, and looks for its options."""
    command: Any = command_line()
    rest, path, spare = list(words), "sana-gateway", 0
    known = _options(command)
    arguments: list[Any] = []
    while rest:
        word = rest.pop(0)
        below = getattr(command, "commands", {})
        usual = "run" in below and word not in known and word != "--help"
        if below and not spare and (word in below or usual):
            name = word if word in below else "run"
            rest = rest if word in below else [word, *rest]
            command, path = below[name], f"{path} {name}"
            known = _options(command)
            arguments = [each for each in command.params if each.param_type_name == "argument"]
        elif word == "--":
            continue
        elif word.startswith("-") and len(word) > 1:
            option, given, value = word.partition("=")
            if option == "--help":
                continue
            if option not in known:
                yield f"{path} has no option {option}"
            elif not known[option].is_flag and not known[option].count:
                if not given and not rest:
                    yield f"{path} {option} lacks its value"
                    return
                yield from _value(path, option, known[option], value if given else rest.pop(0))
        elif word not in {"[OPTIONS]", "COMMAND", "[COMMAND]"}:
            spare += 1
            if not any(each.nargs == -1 for each in arguments) and spare > len(arguments):
                yield f"{path} takes no {word!r}"


def _options(command: Any) -> dict[str, Any]:
    return {
        name: each
        for each in command.params
        if each.param_type_name == "option"
        for name in (*each.opts, *each.secondary_opts)
    }


def _value(path: str, option: str, known: Any, value: str) -> Faults:
    kind = known.type_descriptor.annotation
    if typing.get_origin(kind) is typing.Literal and not _PLACEHOLDER.fullmatch(value):
        if value not in map(str, typing.get_args(kind)):
            yield f"{path} {option} takes no {value!r}"
    elif kind in (int, float) and not _PLACEHOLDER.fullmatch(value):
        try:
            kind(value)
        except ValueError:
            yield f"{path} {option} takes a number, and no {value!r}"


@functools.cache
def makefile() -> str:
    """Returns the Makefile."""
    return (ROOT / "Makefile").read_text()


def _make(words: Sequence[str]) -> Faults:
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile(), re.MULTILINE))
    for word in words:
        name, setting, _ = word.partition("=")
        if setting:
            if not re.search(rf"\$\({name}\)|^{name} =", makefile(), re.MULTILINE):
                yield f"the Makefile knows no {name}"
        elif word not in targets and word[:1] != "-":
            yield f"the Makefile has no target {word}"


def _python(words: Sequence[str]) -> Faults:
    if not words or words[0] != "-m":
        return
    module = words[1]
    if module in {"http.server", "pip", "venv"}:
        return
    try:
        main = importlib.util.find_spec(f"{module}.__main__")
    except ModuleNotFoundError:
        # Not a package, or nothing at all.
        main = None
    parent = module.rpartition(".")[0]
    spec = main or (importlib.util.find_spec(module) if not parent or _is_there(parent) else None)
    if spec is None or spec.origin is None:
        yield f"there is no module {module}"
        return
    folder = Path(spec.origin).parent
    sources = folder.rglob("*.py") if main else folder.glob("*.py")
    source = "\n".join(path.read_text() for path in sources)
    for word in words[2:]:
        option = word.partition("=")[0]
        if option.startswith("--") and f'"{option}"' not in source:
            yield f"{module} has no option {option}"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _curl(words: Sequence[str]) -> Faults:
    given = dict(zip(words, [*words[1:], ""], strict=True))
    body = next((given[each] for each in ("-d", "--data") if each in given), None)
    method = given.get("-X") or ("GET" if body is None else "POST")
    for word in words:
        if not OURS.match(word):
            continue
        path = urlsplit(re.sub(r"\$\{?\w+\}?", "x", word)).path or "/"
        if not any(_fits(route, method, path) for route in ROUTES):
            yield f"no gateway answers {method} {path}"
        if body is not None and "..." not in body:
            yield from _body(path, body)


def _fits(route: str, method: str, path: str) -> bool:
    taken, _, pattern = route.partition(" ")
    pattern = re.sub(r"\{\w+\}", "[^/]+", pattern.replace(".", r"\."))
    # A name of a stream is part of its segment: `/whip/{model}{name}`.
    return (
        taken in {method, "*"}
        and re.fullmatch(pattern.replace("[^/]+[^/]+", ".+"), path) is not None
    )


def _body(path: str, body: str) -> Faults:
    try:
        said = json.loads(body)
    except json.JSONDecodeError as error:
        yield f"what is sent is no JSON: {error}"
        return
    if path.endswith("/commands") and said.get("type") not in NAMES.values():
        yield f"there is no command {said.get('type')}"


def _buf(words: Sequence[str]) -> Faults:
    yield from _call(words)
    for flag, kind in pairwise(words):
        if flag == "--type" and kind.startswith("sana_gateway."):
            known = {f"sana_gateway.v1.{each}" for each in _types()}
            if kind not in known:
                yield f"there is no message {kind}"


def _types() -> set[str]:
    return {each.name for file in files() for each in file.message_type}


def _call(words: Sequence[str]) -> Faults:
    """Looks at a call of ours: its name, and what is sent as JSON."""
    found = [match for word in words if (match := _METHOD.search(word))]
    for match in found:
        service = _SERVICES.get(match[1])
        method = service.methods_by_name.get(match[2]) if service else None
        if method is None:
            yield f"there is no call {match[1]}/{match[2]}"
            continue
        for body in (word for word in words if word.startswith("{")):
            try:
                message: Any = method.input_type._concrete_class()
                json_format.ParseDict(json.loads(body), message)
            except (json.JSONDecodeError, json_format.ParseError) as error:
                yield f"{match[0]}: {error}"


def _pip(words: Sequence[str]) -> Faults:
    for word in words:
        if found := re.fullmatch(r"(?P<what>sana-gateway|\./[\w/]+)\[(?P<extras>[\w,]+)\]", word):
            folder = "." if found["what"] == "sana-gateway" else found["what"]
            document = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
            known = document["project"]["optional-dependencies"]
            for extra in found["extras"].split(","):
                if extra not in known:
                    yield f"{found['what']} has no extra {extra}"


def _npm(words: Sequence[str]) -> Faults:
    words = [word for word in words if not word.startswith("-")]
    if not words or words[0] in {"install", "pack", "ci"}:
        return
    script = words[1] if words[0] == "run" else words[0]
    if script not in _scripts():
        yield f"no package.json has a script {script}"


@functools.cache
def _scripts() -> set[str]:
    packages = [path for path in repository.files() if path.name == "package.json"]
    return {
        name
        for path in packages
        for name in json.loads((ROOT / path).read_text()).get("scripts", {})
    }


def _docker(words: Sequence[str]) -> Faults:
    targets = set(re.findall(r"\bAS (\w+)", (ROOT / "Dockerfile").read_text()))
    for flag, target in pairwise(words):
        if flag == "--target" and target not in targets:
            yield f"the Dockerfile has no target {target}"


@functools.cache
def _tops() -> tuple[frozenset[str], frozenset[str]]:
    """Returns the folders at the top of the repository, and all paths in it."""
    paths = {path.as_posix() for path in repository.files()}
    folders = {parent.as_posix() for path in repository.files() for parent in path.parents}
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    return frozenset(tops), frozenset(paths | folders)


def _paths(words: Sequence[str]) -> Faults:
    """Looks for paths of the repository that are not there."""
    tops, known = _tops()
    for word in words[1:]:
        path = re.sub(r"\[[\w,]+\]$|::.*$", "", word).removeprefix("./").rstrip("/")
        if "/" in path and path.partition("/")[0] in tops and path not in known:
            yield f"{path} is not in the repository"


_JUDGES: Final[Mapping[str, Callable[[Sequence[str]], Faults]]] = {
    "sana-gateway": _ours,
    "make": _make,
    "python": _python,
    "curl": _curl,
    "buf": _buf,
    # A function of docs/grpc.md.
    "sana": _call,
    "pip": _pip,
    "npm": _npm,
    "docker": _docker,
}
