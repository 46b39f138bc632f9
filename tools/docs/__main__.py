"""Makes the generated pages of the documentation.

    python -m tools.docs            names the pages that are stale; status 1 if there are any
    python -m tools.docs --write    makes them anew

Made are the references (`docs/reference/`) and the drawings of `docs/concepts.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scheduler.core.diagram import redrawn
from tools.docs import command_line, diagrams, protobuf, python_code, typescript

ROOT: Final = Path(__file__).resolve().parents[2]
REFERENCE: Final = "docs/reference"
DRAWN: Final = "docs/concepts.md"


def pages() -> dict[str, str]:
    """Returns all generated pages by their paths below the root, as they are to be."""
    made = {DRAWN: redrawn((ROOT / DRAWN).read_text("utf-8"), diagrams.DRAWINGS)}
    for source in (protobuf, python_code, typescript, command_line):
        made |= source.pages()
    return made


def stale(made: dict[str, str]) -> list[str]:
    """Names the pages that differ from what they are to be, are missing, or are left over."""
    left = {path.relative_to(ROOT).as_posix() for path in (ROOT / REFERENCE).rglob("*.md")}
    differing = (path for path, text in made.items() if _present(path) != text)
    return sorted({*differing, *(left - made.keys())})


def _present(path: str) -> str | None:
    file = ROOT / path
    return file.read_text("utf-8") if file.is_file() else None


def main() -> int:
    """Runs the command line."""
    made = pages()
    found = stale(made)
    if "--write" not in sys.argv:
        sys.stdout.writelines(f"stale: {path}\n" for path in found)
        return int(bool(found))
    for path in found:
        file = ROOT / path
        if path in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(made[path], "utf-8")
        else:
            file.unlink()
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
