"""Scenario files as the load harness takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from scheduler.scenario import ConfigurationError, library
from scheduler.scenario.load import Slo
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.sizes import scaled
from sdk_adapters.harness.metrics import METRICS, Kind

STATISTICS: Final[dict[Kind, frozenset[str]]] = {
    Kind.DISTRIBUTION: frozenset({"p50", "p90", "p95", "p99", "min", "mean", "max"}),
    Kind.COUNT: frozenset({"total"}),
    Kind.SHARE: frozenset({"share"}),
    Kind.LEVEL: frozenset({"min", "mean", "max"}),
}
"""What can be asked of a metric, by its kind."""


def read(name_or_path: str, *, scale: float = 1.0, seed: int | None = None) -> Scenario:
    """Returns the one scenario that a preset's name or a file's path stands for.

    Args:
        name_or_path: Which.
        scale: How many times the sessions it has.
        seed: Draws others; None: the scenario's own.

    Raises:
        ConfigurationError: There is none, or several; it does not follow the schema; it asks
            for a metric, or for a statistic of one, that is not measured.
    """
    found = library.load(name_or_path)
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise ConfigurationError(f"{name_or_path} stands for several scenarios ({names}): name one")
    scenario = found[0] if scale == 1.0 else scaled(found[0], scale)
    check(scenario.slo, name_or_path)
    return scenario if seed is None else scenario.model_copy(update={"seed": seed})


def read_slo(path: Path) -> Slo:
    """Returns the thresholds that stand in a file: by metric, or below the key `slo`.

    Raises:
        ConfigurationError: It cannot be read, does not follow the schema, or asks for what is
            not measured.
    """
    import yaml  # nothing else here reads YAML

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} is not YAML") from None
    if isinstance(document, dict):
        document = document.get("slo", document)
    try:
        slo = TypeAdapter(Slo).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise ConfigurationError(f"{path} holds no thresholds: {place}: {first['msg']}") from None
    check(slo, str(path))
    return slo


def check(slo: Slo, origin: str) -> None:
    """Refuses bounds for what is not measured.

    Raises:
        ConfigurationError: Says which, and what there is.
    """
    if wrong := "; ".join(_wrong(slo)):
        raise ConfigurationError(f"{origin} asks for what is not measured: {wrong}")


def _wrong(slo: Slo) -> Iterator[str]:
    for name, bounds in slo.items():
        if (metric := METRICS.get(name)) is None:
            yield f"slo.{name}: no such metric (docs/load.md tells them)"
            continue
        known = STATISTICS[metric.kind]
        for statistic in sorted(bounds.asked.keys() - known):
            yield f"slo.{name}.{statistic}: it has {', '.join(sorted(known))}"
