"""The table of the chart's values, from their comments.

python -m tools.chart_values            # the table of helm/sana-gateway/README.md
python -m tools.chart_values --write    # into that page
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).resolve().parent.parent / "helm/sana-gateway"
PAGE: Final = CHART / "README.md"
BEGIN: Final = "<!-- values:begin -->"
END: Final = "<!-- values:end -->"
LONGEST: Final = 60
"""Characters of a default that stand in the table; of a longer one it says so."""
_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z][A-Za-z0-9]*):")


def described(text: str) -> Iterator[tuple[str, str]]:
    """Yields the path of each value in a file, in order, and the comment right above it."""
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        if found := _KEY.match(line):
            indent = len(found["indent"])
            above = [each for each in above if each[0] < indent]
            above.append((indent, found["name"]))
            yield ".".join(name for _, name in above), " ".join(comment)
        comment = []


def table() -> str:
    """Returns the table: groups of values have no default of their own."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    paths = [each for each in described(text) if _is_there(values, each[0])]
    for path, comment in paths:
        group = any(other.startswith(f"{path}.") for other, _ in paths)
        if group and not comment:
            continue
        default = "" if group else _default(_at(values, path))
        rows.append(f"| `{path}` | {default} | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def page(before: str) -> str:
    """Returns a page with the table as it is now.

    Args:
        before: The page, with the two marks.
    """
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


def _is_there(values: Any, path: str) -> bool:  # noqa: ANN401 - YAML
    """Tells whether a path leads to a value: what stands in a list is part of it."""
    for name in path.split("."):
        if not isinstance(values, dict):
            return False
        values = values[name]
    return True


def _at(values: Any, path: str) -> Any:  # noqa: ANN401 - YAML
    for name in path.split("."):
        values = values[name]
    return values


def _default(value: Any) -> str:  # noqa: ANN401 - YAML
    if value in ("", [], {}):
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" if len(text) <= LONGEST else "see values.yaml"


def main() -> None:
    """Prints the table, or writes the page."""
    if "--write" in sys.argv:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        sys.stdout.write(table() + "\n")


if __name__ == "__main__":
    main()
