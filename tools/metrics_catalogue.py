"""All metrics of the service, from the code that declares them.

    python -m tools.metrics_catalogue            # the table of docs/metrics.md
    python -m tools.metrics_catalogue --write    # into docs/metrics.md
    python -m tools.metrics_catalogue --names    # every name that a query may hold, one a line

An instrument is found by importing the modules that make one; a collector tells its own by
`described`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs/metrics.md"
PACKAGES: Final = ("gateway", "model_actor", "scheduler", "sdk_adapters")
BEGIN: Final = "<!-- metrics:begin -->"
END: Final = "<!-- metrics:end -->"
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
"""What the samples of a type of metric are called beyond its name."""
WHERE: Final = (
    ("gateway.front_door", "front door"),
    ("gateway", "gateway"),
    ("sdk_adapters", "gateway"),
    ("model_actor", "actor"),
    ("scheduler.metrics", "gateway"),
    ("scheduler.process.threads", "gateway, actor"),
    ("scheduler.process", "all"),
    ("scheduler", "scheduler"),
)
"""Which process exposes what a module declares; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class Described:
    """A metric, as the code declares it."""

    name: str
    """Without the suffixes of its samples."""
    kind: str
    """`counter`, `gauge` or `histogram`."""
    labels: tuple[str, ...]
    text: str
    where: str
    """Which process exposes it."""

    @property
    def exposed(self) -> tuple[str, ...]:
        """Names of its samples, as queries hold them."""
        return tuple(self.name + suffix for suffix in SUFFIXES[self.kind])


def catalogue() -> list[Described]:
    """Returns all metrics by their names."""
    found: dict[str, Described] = {}
    for module in _modules():
        where = next(told for prefix, told in WHERE if module.__name__.startswith(prefix))
        for described in _of(module, where):
            found.setdefault(described.name, described)
    return [found[name] for name in sorted(found)]


def table() -> str:
    """Returns the table of the page."""
    lines = ["| Metric | Type | Labels | Where | Meaning |", "|---|---|---|---|---|"]
    for each in catalogue():
        name = each.name + ("_total" if each.kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in each.labels)
        text = " ".join(each.text.split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {each.kind} | {labels} | {each.where} | {text} |")
    return "\n".join(lines)


def page(before: str) -> str:
    """Returns a page with the table as it is now.

    Args:
        before: The page, with the two marks.
    """
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


def _modules() -> Iterator[Any]:
    """Imports the modules that make instruments: those that import what makes them."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative.parts[:2] in {("sdk_adapters", "python"), ("sdk_adapters", "typescript")}:
                continue
            if _declares(path.read_text()):
                parts = relative.with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                yield importlib.import_module(name)


def _declares(source: str) -> bool:
    if "prometheus_client" not in source:
        return False
    wanted = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum", "Collector"}
    return any(
        isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("prometheus_client")
        and wanted & {each.name for each in node.names}
        for node in ast.walk(ast.parse(source))
    )


def _of(module: Any, where: str) -> Iterator[Described]:  # noqa: ANN401 - a module
    own = _assigned(inspect.getsource(module))
    for name, value in vars(module).items():
        if isinstance(value, (Counter, Gauge, Histogram)) and name in own:
            yield _instrument(value, where)
        elif (
            inspect.isclass(value)
            and Collector in value.__mro__
            and value.__module__ == module.__name__
        ):
            families = value.described()  # type: ignore[attr-defined]
            for family in families.values() if isinstance(families, dict) else families:
                yield _family(family, where)


def _assigned(source: str) -> set[str]:
    """Returns the names that a module gives values of its own: others declare the rest."""
    found = set()
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {each.id for each in targets if isinstance(each, ast.Name)}
    return found


def _instrument(made: Counter | Gauge | Histogram, where: str) -> Described:
    # No public way tells what an instrument was made with.
    name, labels, text = made._name, made._labelnames, made._documentation  # noqa: SLF001
    return Described(name, type(made).__name__.lower(), tuple(labels), text, where)


def _family(family: Metric, where: str) -> Described:
    labels = getattr(family, "_labelnames", ())
    return Described(family.name, family.type, tuple(labels), family.documentation, where)


def main() -> None:
    """Prints the table or the names, or writes the page."""
    if "--names" in sys.argv:
        names = [name for each in catalogue() for name in each.exposed]
        sys.stdout.write("\n".join(names) + "\n")
    elif "--write" in sys.argv:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        sys.stdout.write(table() + "\n")


if __name__ == "__main__":
    main()
