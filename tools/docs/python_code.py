"""References of Python code from its docstrings, read by griffe and run by nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import griffe

from tools.docs import protobuf
from tools.docs.markdown import GENERATED, prose, slug, table

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Reference:
    """A page, and which modules stand on it."""

    path: str
    title: str
    introduction: str
    source: str
    """Folder that the modules are looked for in, below the root."""
    modules: tuple[str, ...]


REFERENCES: Final = (
    Reference(
        "docs/reference/python.md",
        "The Python client",
        "What it exports. [Its guide](../../sdk_adapters/python/README.md) shows how it is used.",
        "sdk_adapters/python",
        (
            "sana_gateway", "sana_gateway.events", "sana_gateway.camera", "sana_gateway.pictures",
            "sana_gateway.webrtc", "sana_gateway.pool",
        ),
    ),
    Reference(
        "docs/reference/plugin.md",
        "The interface of models",
        "What a plugin of the group `sana_gateway.models` is, and what it is given.",
        ".",
        ("model_actor.plugin",),
    ),
)  # fmt: skip


def pages() -> dict[str, str]:
    """Returns the pages by their paths."""
    return {each.path: _page(each) for each in REFERENCES}


@cache
def _module(name: str, source: str) -> griffe.Module:
    package = name.partition(".")[0]
    loader = griffe.GriffeLoader(
        search_paths=[ROOT / source], docstring_parser=griffe.Parser.google, allow_inspection=False
    )
    loader.load(package)
    loader.resolve_aliases(external=False)
    found = loader.modules_collection[name]
    assert isinstance(found, griffe.Module)  # noqa: S101 - it was asked for by its name
    return found


def _page(page: Reference) -> str:
    lines = [f"# {page.title}", "", GENERATED, "", page.introduction]
    shown: set[str] = set()
    for name in page.modules:
        module = _module(name, page.source)
        public = [each for each in _public(module) if _canonical(each) not in shown]
        shown |= {_canonical(each) for each in public}
        lines += ["", f"## `{name}`", *_text(module)]
        messages = [each for each in public if each.is_alias and ".v1." in each.target_path]
        errors = [each for each in public if each not in messages and _is_error(each)]
        for each in public:
            if each not in messages and each not in errors:
                lines += _object(_target(each), 3)
        if errors:
            rows = ((f"`{each.name}`", _kinds(each), _said(each)) for each in errors)
            lines += ["", "### Errors", "", *table(("Error", "A kind of", "When"), rows)]
            for each in errors:
                if _values(_target(each)):
                    lines += _class(_target(each), 4)
        if messages:
            lines += ["", "### Of the contract", "", ", ".join(map(_message, messages)) + "."]
    return "\n".join(lines) + "\n"


def _public(module: griffe.Module) -> list[Any]:
    """Returns what a module offers: what it exports, else what it defines without a dash before."""
    exported = module.exports
    if exported is not None:
        return [module.members[str(name)] for name in sorted(map(str, exported))]
    return [
        each
        for name, each in module.members.items()
        if not name.startswith("_") and not each.is_alias and each.has_docstring
    ]


def _target(each: Any) -> Any:  # noqa: ANN401 - object or alias
    return each.final_target if each.is_alias else each


def _is_error(each: Any) -> bool:  # noqa: ANN401 - object or alias
    return bool(each.is_class and (each.name.endswith("Error") or "Error" in _kinds(each)))


def _kinds(each: Any) -> str:  # noqa: ANN401 - a class
    return ", ".join(f"`{base}`" for base in map(str, each.bases))


def _canonical(each: Any) -> str:  # noqa: ANN401 - object or alias
    return str(each.target_path if each.is_alias else each.path)


def _message(alias: Any) -> str:  # noqa: ANN401 - an alias
    """Returns a link to where the gRPC reference has a type."""
    for file in protobuf.files():
        if alias.name in protobuf.names(file):
            stem = Path(file.name).stem
            return f"[`{alias.name}`](proto/{stem}.md#{slug(alias.name)})"
    return f"`{alias.name}`"


def _object(each: Any, level: int, owner: str = "") -> Iterator[str]:  # noqa: ANN401
    if each.is_class:
        yield from _class(each, level)
    elif each.is_function:
        yield from _function(each, level, owner)
    else:
        yield from ("", f"{'#' * level} {owner}{each.name}", *_attribute(each))


def _class(each: Any, level: int) -> Iterator[str]:  # noqa: ANN401
    yield from ("", f"{'#' * level} {each.name}")
    made = each.members.get("__init__")
    if made is not None and made.parameters:
        yield from ("", *_signature(each.name, made, leave_out=1))
    if kinds := _kinds(each):
        yield from ("", f"A kind of {kinds}.")
    yield from _text(each)
    if made is not None:
        yield from _text(made)
    if values := _values(each):
        rows = ((f"`{value.name}`", _type(value), _said(value)) for value in values)
        yield from ("", *table(("Attribute", "Type", "Meaning"), rows))
    for name, member in each.members.items():
        if not name.startswith("_") and member.is_function and member.has_docstring:
            yield from _function(member, level + 1, f"{each.name}.")


def _values(each: Any) -> list[Any]:  # noqa: ANN401 - a class
    """Returns the public attributes and properties of a class that say what they are."""
    return [
        member
        for name, member in each.members.items()
        if not name.startswith("_")
        and not member.is_alias
        and not member.is_function
        and not member.is_class
        and member.has_docstring
    ]


def _function(each: Any, level: int, owner: str) -> Iterator[str]:  # noqa: ANN401
    yield from ("", f"{'#' * level} {owner}{each.name}", "")
    yield from _signature(each.name, each, leave_out=1 if owner else 0)
    yield from _text(each)


def _attribute(each: Any) -> Iterator[str]:  # noqa: ANN401
    value = f" = {each.value}" if each.value is not None and len(str(each.value)) < 60 else ""
    annotation = f": {each.annotation}" if each.annotation else ""
    yield from ("", "```text", f"{each.name}{annotation}{value}", "```", *_text(each))


def _signature(name: str, function: Any, leave_out: int) -> Iterator[str]:  # noqa: ANN401
    """Yields how a function is called, as a block."""
    given, bare = [], False
    for each in list(function.parameters)[leave_out:]:
        kind = each.kind
        if kind is griffe.ParameterKind.keyword_only and not bare:
            bare = True
            given.append("*")
        stars = {
            griffe.ParameterKind.var_positional: "*",
            griffe.ParameterKind.var_keyword: "**",
        }.get(kind, "")
        bare = bare or stars == "*"
        annotation = f": {_plain(each.annotation)}" if each.annotation else ""
        default = f" = {each.default}" if each.default is not None and not stars else ""
        given.append(f"{stars}{each.name}{annotation}{default}")
    word = "async " if "async" in function.labels else ""
    returns = f" -> {_plain(function.returns)}" if function.returns and name[0].islower() else ""
    line = f"{word}{name}({', '.join(given)}){returns}"
    if len(line) > 88:
        inner = "".join(f"    {each},\n" for each in given)
        line = f"{word}{name}(\n{inner}){returns}"
    yield from ("```text", line, "```")


def _plain(annotation: Any) -> str:  # noqa: ANN401 - expression or text
    """Returns a type, the modules of the contract under one name."""
    return re.sub(r"\b\w+_pb2\.", "v1.", str(annotation))


def _type(each: Any) -> str:  # noqa: ANN401
    annotation = each.annotation
    return f"`{_plain(annotation)}`" if annotation else ""


def _said(each: Any) -> str:  # noqa: ANN401
    return prose(" ".join(each.docstring.value.split())) if each.has_docstring else ""


def _text(each: Any) -> Iterator[str]:  # noqa: ANN401
    """Yields a docstring as Markdown: text, then what is given, returned and raised."""
    if not each.has_docstring:
        return
    for section in each.docstring.parsed:
        yield from _SECTIONS.get(section.kind, _nothing)(section.value)


def _nothing(_: object) -> Iterable[str]:
    return ()


def _prose(text: str) -> Iterator[str]:
    for part in text.split("\n\n"):
        if part.startswith("    "):
            yield from ("", "```text", *(line[4:] for line in part.splitlines()), "```")
        else:
            yield from ("", prose(part))


def _given(parameters: Any) -> Iterator[str]:  # noqa: ANN401
    rows = ((f"`{each.name}`", _flat(each.description)) for each in parameters)
    yield from ("", *table(("Argument", "Meaning"), rows))


def _returned(values: Any) -> Iterator[str]:  # noqa: ANN401
    told = " ".join(_flat(each.description) for each in values)
    yield from ("", f"**Returns** {told[:1].lower()}{told[1:]}")


def _raised(errors: Any) -> Iterator[str]:  # noqa: ANN401
    rows = ((f"`{each.annotation}`", _flat(each.description)) for each in errors)
    yield from ("", *table(("Raises", "When"), rows))


def _flat(text: str) -> str:
    return prose(" ".join(text.split()))


_SECTIONS: Final = {
    griffe.DocstringSectionKind.text: _prose,
    griffe.DocstringSectionKind.parameters: _given,
    griffe.DocstringSectionKind.returns: _returned,
    griffe.DocstringSectionKind.yields: _returned,
    griffe.DocstringSectionKind.raises: _raised,
}
