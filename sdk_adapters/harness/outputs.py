"""Where the reports of a run are left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sdk_adapters.harness.report import html, junit, markdown
from sdk_adapters.harness.report.model import LoadReport

FORMS: Final[Mapping[str, tuple[str, Callable[[LoadReport], str]]]] = {
    "html": ("report.html", html.render),
    "json": ("report.json", lambda report: report.model_dump_json(indent=1) + "\n"),
    "markdown": ("report.md", markdown.render),
    "junit": ("junit.xml", junit.render),
}
"""Names of the files in the folder, and what writes them, by form."""


def places(folder: Path, elsewhere: Mapping[str, Path | None]) -> dict[str, Path]:
    """Returns where each form goes: into the folder, or where the user says."""
    return {form: elsewhere.get(form) or folder / name for form, (name, _) in FORMS.items()}


def prepare(paths: Iterable[Path]) -> None:
    """Makes the folders of files that are to be written in the end, and tries to write there: a
    run should not end with a report that nobody can keep.

    Raises:
        OSError: One could not be written.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.open("ab").close()
        else:
            with tempfile.TemporaryFile(dir=path.parent):
                """Only tried."""


def write(report: LoadReport, where: Mapping[str, Path]) -> None:
    """Writes a report in all its forms; folders are made. Those that can be written are, even
    if another one cannot.

    Raises:
        OSError: A file cannot be written.
    """
    failed: OSError | None = None
    for form, path in where.items():
        _, render = FORMS[form]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render(report), "utf-8")
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Writes a document as JSON; folders are made.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
