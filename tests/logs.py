"""What every process of the tests logged, and what must not stand in it.

`tests/stack.py` keeps the log of each service that it runs, those of Ray's workers among them;
`tests/conftest.py` looks at them when the run ends, and at what each test's own process said. A
prompt, a file name, a key, a token or a password in any of it fails the run.

What is content is read from the tests themselves: all that they set as prompts. What is secret
has a form that is looked for; what has none is told with `forbid`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = "SANA_TEST_LOGS"
"""Variable that names the folder where logs are kept for the scan."""
_LOG_LINE: Final = re.compile(r"(?:\x1b\[\d*m)*\d{4}-\d\d-\d\d[ T]|\{\"event\"")
_SECRETS: Final = "secrets"
"""Name of the file there with what else must not stand in a log, one JSON text a line."""
_LONGEST_SHOWN: Final = 200
LEAST_LETTERS: Final = 12
"""Shorter prompts, and those of one word, may be words of a log by chance."""

FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "an API key": re.compile(r"rk_[A-Za-z0-9_-]{20,}"),
    "a token": re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "an Authorization header": re.compile(r"[Aa]uthorization['\"]?\s*[:=]|Bearer [\w.~+/-]{12,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a password of ICE": re.compile(r"a=ice-pwd:|\bice-pwd\b"),
    "a description of media": re.compile(r"m=video \d|a=fingerprint:"),
    "a login of TURN": re.compile(r"turns?:[^\s:@'\"]+:[^\s@'\"]+@"),
    "a name of a video": re.compile(r"[\w-]+\.(?:mp4|webm|mov|mkv)\b"),
}
"""What a secret, or the name of a file, looks like in a text."""

_SOURCES: Final = frozenset({".py", ".js", ".mjs", ".ts", ".html"})
_MENTIONED: Final = re.compile(r"set_prompt|PROMPT\w* = |prompt=|[\"']prompt[\"']:")
"""Only sources with one of these are read closely: the others set no prompt."""
_PROMPT_NAME: Final = re.compile(r"PROMPT")
_IN_JAVASCRIPT: Final = re.compile(
    r"(?:setPrompt\(|set_prompt\(|prompt:)\s*(?:\{\s*prompt:\s*)?([\"'`])(.+?)\1"
)


def keep(log: Path) -> None:
    """Keeps a log for the scan, also when it is written to or removed from now on. Without a run
    that scans nothing is done.
    """
    folder = os.environ.get(FOLDER)
    if folder and log.is_file():
        kept = Path(folder) / f"{uuid.uuid4().hex}.log"
        try:
            kept.hardlink_to(log)
        except OSError:
            shutil.copyfile(log, kept)


def forbid(*secrets: str) -> None:
    """Says what must not stand in any log of this run: secrets that have no form of their own."""
    folder = os.environ.get(FOLDER)
    if folder:
        with (Path(folder) / _SECRETS).open("a") as file:
            file.writelines(f"{json.dumps(secret)}\n" for secret in secrets if secret)


def said_by(section: str, text: str) -> str:
    """Returns what of a test's captured output is log: all but what commands, which may print
    keys, print to standard output.
    """
    if "stdout" not in section:
        return text
    return "\n".join(line for line in text.splitlines() if _LOG_LINE.match(line))


def faults_of_run(folder: Path, tests: Path) -> list[str]:
    """Returns what stands in the logs of a run that must not.

    Args:
        folder: Where logs were kept.
        tests: The folder of the tests, whose prompts count.
    """
    scan = Scan(prompts(tests), _forbidden(folder))
    found = []
    for log in sorted(folder.glob("*.log")):
        found += scan.faults(log.read_text(errors="replace"))
    return found


class Scan:
    """Looks for what must not stand in a log.

    Args:
        content: Prompts.
        secrets: Secrets without a form of their own.
    """

    def __init__(self, content: Iterable[str], secrets: Iterable[str] = ()) -> None:
        self._words = {**dict.fromkeys(content, "a prompt"), **dict.fromkeys(secrets, "a secret")}

    def faults(self, text: str) -> list[str]:
        """Returns what stands in a text, each kind with the line that it stands in."""
        places = [(kind, form.search(text)) for kind, form in FORMS.items()]
        found = [(kind, place.start()) for kind, place in places if place is not None]
        found += [(kind, at) for word, kind in self._words.items() if (at := text.find(word)) >= 0]
        return [f"{kind}: {_line(text, at)}" for kind, at in found]


def prompts(tests: Path) -> set[str]:
    """Returns what tests set as prompts, as far as their sources tell: arguments of `set_prompt`,
    values under `prompt`, and constants with PROMPT in their names.
    """
    found: set[str] = set()
    for path in tests.rglob("*"):
        if path.suffix not in _SOURCES or "node_modules" in path.parts:
            continue
        source = path.read_text()
        if path.suffix != ".py":
            found.update(each[2] for each in _IN_JAVASCRIPT.finditer(source))
        elif _MENTIONED.search(source):
            found.update(_of_python(source))
    return {each for each in found if len(each) >= LEAST_LETTERS and " " in each}


def _of_python(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="set_prompt"), args=[first, *_]):
                yield from _texts(first)
            case ast.keyword(arg="prompt", value=value):
                yield from _texts(value)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "prompt":
                        yield from _texts(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _PROMPT_NAME.search(name):
                yield from _texts(value)


def _texts(node: ast.expr) -> Iterator[str]:
    """Yields the constant texts that an expression is made of."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value.strip()


def _forbidden(folder: Path) -> list[str]:
    file = folder / _SECRETS
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _line(text: str, at: int) -> str:
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)]
    # Of a long line, the part where it stands.
    return line[max(0, at - start - _LONGEST_SHOWN // 2) :][:_LONGEST_SHOWN]
