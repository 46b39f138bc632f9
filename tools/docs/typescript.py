"""The reference of the TypeScript client, from the declarations that its compiler makes."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.docs.markdown import GENERATED, prose, table

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "sdk_adapters/typescript"
NODE: Final = ROOT / ".tools/bin/node"
PAGE: Final = "docs/reference/typescript.md"
ENTRIES: Final = {
    "@sana-gateway/client": "index.ts",
    "@sana-gateway/client/react": "react/index.ts",
}
_EXPORT: Final = re.compile(
    r"^export (?P<types>type )?(?:\*|\{(?P<names>[^}]*)\}) from \"\./(?P<module>[\w/]+)\.js\";",
    re.MULTILINE,
)
_NAME: Final = re.compile(
    r"export (?:declare )?(?:abstract )?(?P<kind>class|interface|type|function|const) (?P<name>\w+)"
)
_MEMBER: Final = re.compile(
    r"(?:static |readonly |protected |private |get |set )*(?P<name>\w+)\??(?P<call>[(<])?"
)
_VALUE: Final = re.compile(r"/\*\*(.*?)\*/\s*\|?\s*(\"\w+\")", re.DOTALL)
_TAG: Final = re.compile(r"^@(?P<tag>\w+)\s*(?:\{(?P<type>[^}]*)\}\s*)?(?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Declared:
    """Something that is declared: at the top of a module, or within a class or an interface."""

    text: str
    """The declaration, without its comment."""
    comment: str
    """Without stars."""

    def with_another(self, other: Declared) -> Declared:
        """Returns it with another way to call it."""
        comment = "\n\n".join(filter(None, (self.comment, other.comment)))
        return Declared(f"{self.text}\n{other.text}", comment)

    @property
    def is_main(self) -> bool:
        """Whether it is a class by itself: what users begin with."""
        head = self.text.partition("{")[0]
        return head.startswith("export declare class") and " extends " not in head


def pages() -> dict[str, str]:
    """Returns the page by its path.

    Raises:
        CalledProcessError: The compiler finds fault with the client.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                NODE,
                PACKAGE / "node_modules/typescript/bin/tsc",
                *("-p", PACKAGE / "tsconfig.json", "--outDir", folder, "--emitDeclarationOnly"),
            ],
            check=True,
        )
        made = {
            path.relative_to(folder).as_posix().removesuffix(".d.ts"): path.read_text("utf-8")
            for path in Path(folder).rglob("*.d.ts")
        }
    lines = ["# The TypeScript client", "", GENERATED, ""]
    lines += ["What its two entries export. [Its guide](../typescript.md) shows how it is used."]
    for package, entry in ENTRIES.items():
        lines += ["", f"## `{package}`"]
        found = exported(made, entry)
        for name in sorted(found, key=lambda name: not found[name].is_main):
            lines += _declared(name, found[name])
    return {PAGE: "\n".join(lines) + "\n"}


def exported(made: Mapping[str, str], entry: str) -> dict[str, Declared]:
    """Returns what an entry exports, by name, in the order of its lines.

    Args:
        made: Declarations of all modules, by their paths without endings.
        entry: Path of its source below `src/`.
    """
    source = (PACKAGE / "src" / entry).read_text("utf-8")
    folder = f"{entry.rpartition('/')[0]}/".lstrip("/")
    found: dict[str, Declared] = {}
    for export in _EXPORT.finditer(source):
        declared: dict[str, Declared] = {}
        for each in statements(made[f"{folder}{export['module']}"]):
            if match := _NAME.match(each.text):
                # The second of two is another way to call the same.
                first = declared.get(match["name"])
                declared[match["name"]] = first.with_another(each) if first else each
        names = export["names"]
        wanted = declared if names is None else re.findall(r"(?:type )?(\w+)", names)
        found |= {name: declared[name] for name in wanted if name != "type"}
    return found


def statements(text: str) -> Iterator[Declared]:
    """Yields the declarations of a text, each with the comment right above it."""
    comment, begun = "", ""
    for line in text.splitlines():
        begun += f"{line}\n"
        if begun.lstrip().startswith("/**"):
            if "*/" in begun:
                comment, begun = _uncommented(begun), ""
        elif _is_whole(begun):
            if begun.strip():
                yield Declared(begun.strip(), comment)
            comment, begun = "", ""


def _is_whole(text: str) -> bool:
    """Tells whether a declaration is complete: brackets are closed, and it has an end."""
    bare = re.sub(r"/\*.*?\*/|\"[^\"\n]*\"", "", text, flags=re.DOTALL)
    depth = sum(bare.count(each) for each in "{[(") - sum(bare.count(each) for each in "}])")
    return depth == 0 and bare.rstrip()[-1:] in {"", ";", "}"}


def _uncommented(comment: str) -> str:
    inner = comment.strip().removeprefix("/**").removesuffix("*/")
    lines = (re.sub(r"^\s*\* ?", "", line) for line in inner.splitlines())
    return "\n".join(lines).strip()


def _declared(name: str, declared: Declared) -> Iterator[str]:
    match = _NAME.match(declared.text)
    kind = match["kind"] if match else ""
    yield from ("", f"### {name}")
    if values := _VALUE.findall(declared.text) if kind == "type" else ():
        meanings = [(f"`{value}`", _first(_uncommented(f"/**{said}*/"))) for said, value in values]
        yield from (*_comment(declared.comment), "", *table(("Value", "Meaning"), meanings))
        return
    if kind not in {"class", "interface"}:
        yield from _block(declared.text)
        yield from _comment(declared.comment)
        return
    head, _, body = declared.text.partition("{\n")
    if " extends " in head or " implements " in head:
        yield from _block(f"{head.strip()} {{ ... }}")
    yield from _comment(declared.comment)
    inner = [each for each in statements(body.rpartition("}")[0]) if _is_public(each.text)]
    held = [each for each in inner if not _is_call(each.text)]
    if held:
        rows = [(*_value(each), _first(each.comment)) for each in held]
        yield from ("", *table(("Property", "Type", "Meaning"), rows))
    for each in inner:
        if _is_call(each.text):
            member = _MEMBER.match(each.text)
            called = member["name"] if member else ""
            title = f"new {name}" if called == "constructor" else f"{name}.{called}"
            yield from ("", f"#### {title}")
            yield from _block(each.text)
            yield from _comment(each.comment)


def _is_public(text: str) -> bool:
    return not text.startswith(("#", "private ", "protected ", "set "))


def _is_call(text: str) -> bool:
    """Tells a method from a value; getters are values."""
    member = _MEMBER.match(text)
    return member is not None and member["call"] is not None and not text.startswith("get ")


def _value(declared: Declared) -> tuple[str, str]:
    """Returns name and type of a property."""
    text = re.sub(r"/\*\*.*?\*/", "", declared.text, flags=re.DOTALL)
    text = " ".join(text.split()).removesuffix(";")
    text = re.sub(r"^(?:static |readonly |get )+", "", text).replace("(): ", ": ", 1)
    name, _, kind = text.partition(": ")
    return f"`{name}`", f"`{kind}`"


def _block(text: str) -> Iterator[str]:
    text = re.sub(r"^export (?:declare )?", "", text, flags=re.MULTILINE)
    dedented = re.sub(r"^    ", "  ", text, flags=re.MULTILINE)
    yield from ("", "```typescript", dedented, "```")


def _comment(comment: str) -> Iterator[str]:
    """Yields a comment as Markdown, and a table of what is thrown."""
    text, *tags = re.split(r"^(?=@)", comment, flags=re.MULTILINE)
    for part in filter(None, (part.strip("\n") for part in text.split("\n\n"))):
        if part.startswith("    "):
            yield from ("", "```typescript", *(line[4:] for line in part.splitlines()), "```")
        else:
            yield from ("", prose(" ".join(part.split())))
    found = [match for tag in tags if (match := _TAG.match(" ".join(tag.split())))]
    for match in found:
        if match["tag"] == "param":
            name, _, said = match["text"].partition(" ")
            yield from ("", f"`{name}`: {prose(said)}")
    if thrown := [(f"`{m['type']}`", prose(m["text"])) for m in found if m["tag"] == "throws"]:
        yield from ("", *table(("Throws", "When"), thrown))


def _first(comment: str) -> str:
    return prose(" ".join(re.split(r"^@", comment, flags=re.MULTILINE)[0].split()))
