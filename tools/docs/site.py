"""Hooks of the site (`mkdocs.yml`): pages from outside `docs/`, links to sources, offline parts.

The pages are written for who reads them in the repository; what differs on the site is done here.
Links to pages that lie elsewhere lead to their copies on the site. Links to sources lead to
`repo_url`, where one is set, and else are the names of the files alone. Mermaid is served by the
site itself. Formulas become MathML.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = "docs"
ELSEWHERE: Final = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "security.md",
    "helm/sana-gateway/README.md": "chart.md",
    "sdk_adapters/python/README.md": "python.md",
}
"""Pages outside `docs/`, and where the site has them."""
INSTEAD: Final = {"README.md": "index.md", "sdk_adapters/typescript/README.md": "typescript.md"}
"""Pages that the site has another one for."""
MERMAID: Final = "assets/mermaid.min.js"
_MERMAID_FILE: Final = Path(os.environ.get("DOCS_MERMAID", ROOT / ".tools/mermaid/mermaid.min.js"))

_INLINE: Final = re.compile(r"<code>[^<]*</code>")
_FENCE: Final = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`+[^`\n]*`+")
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_FORMULA: Final = re.compile(r"\$\$(.+?)\$\$|(?<![\w$\\])\$([^$\n]+?)\$(?!\w)", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lets pages load Mermaid from the site: the theme then asks nobody else for it."""
    config.extra_javascript.append(MERMAID)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds what lies outside `docs/`.

    Raises:
        PluginError: Mermaid is not there; diagrams would be fetched from strangers.
    """
    if not _MERMAID_FILE.is_file():
        raise PluginError(f"{_MERMAID_FILE.name} is missing: `make docs` brings it")
    files.append(File.generated(config, MERMAID, abs_src_path=str(_MERMAID_FILE)))
    for source, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:  # noqa: ANN401
    """Turns links into those of the site, and puts formulas aside: they are no Markdown."""
    here = page.file.src_uri
    source = next((path for path, uri in ELSEWHERE.items() if uri == here), f"{DOCS}/{here}")
    repository = config.repo_url or ""
    formulas: list[str] = []

    def aside(found: re.Match[str]) -> str:
        formulas.append(_formula(found))
        return _place(len(formulas) - 1)

    def changed(text: str) -> str:
        text = _LINK.sub(lambda found: linked(found, source, here, repository), text)
        return (
            _outside(_CODE, text, lambda it: _FORMULA.sub(aside, it)) if "$$" in markdown else text
        )

    page.meta["formulas"] = formulas
    return _outside(_FENCE, markdown, changed)


def on_page_content(html: str, *, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Puts the formulas where they belong, and bars in tables as GitHub shows them."""
    for number, formula in enumerate(page.meta.pop("formulas", ())):
        html = html.replace(_place(number), formula)
    return _INLINE.sub(lambda found: found[0].replace(r"\|", "|"), html)


def linked(found: re.Match[str], source: str, here: str, repository: str) -> str:
    """Returns a link or picture as the site has it.

    Args:
        found: What stands in the page: `!` or nothing, text, target.
        source: The page's path in the repository.
        here: Its path on the site.
        repository: Where sources can be read; may be empty.
    """
    picture, text, target = found.groups()
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z][a-z0-9+.-]*:|/", path):
        return found[0]
    there = os.path.normpath(PurePosixPath(source).parent / path)
    uri = ELSEWHERE.get(there) or INSTEAD.get(there)
    if uri is None and there.startswith(f"{DOCS}/"):
        uri = there.removeprefix(f"{DOCS}/")
    if uri is not None:
        relative = os.path.relpath(uri, PurePosixPath(here).parent)
        return f"{picture}[{text}]({relative}{mark}{anchor})"
    if repository:
        return f"{picture}[{text}]({repository.rstrip('/')}/blob/HEAD/{there}{mark}{anchor})"
    return text


def _formula(found: re.Match[str]) -> str:
    block, inline = found.groups()
    return convert(block.strip(), display="block") if block else convert(inline.strip())


def _place(number: int) -> str:
    return f"formulaNo{number}stands"


def _outside(kept: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Returns a text with what a pattern does not match changed."""
    parts, at = [], 0
    for found in kept.finditer(text):
        parts += [change(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join((*parts, change(text[at:])))
