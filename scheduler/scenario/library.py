"""Where scenarios come from: those that are shipped, and files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.scenario import Scenario, parse

DEFAULT = ("h200", "wide", "one-slot")
"""What the preset `default` runs, one after the other."""
_SUFFIX = ".yaml"


def names() -> tuple[str, ...]:
    """Returns the names of the shipped scenarios, and of `default`, which runs three."""
    folder = resources.files("scheduler.scenario") / "presets"
    found = (entry.name for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))
    return ("default", *sorted(name.removesuffix(_SUFFIX) for name in found))


def load(name_or_path: str) -> tuple[Scenario, ...]:
    """Returns the scenarios that a name or the path of a file stands for.

    Raises:
        ConfigurationError: There is none, or it does not follow the schema.
    """
    if name_or_path == "default":
        return tuple(each for name in DEFAULT for each in load(name))
    if name_or_path in names():
        return (_parse(text(name_or_path), f"the preset {name_or_path}", None),)
    return (_parse(text(name_or_path), name_or_path, Path(name_or_path).parent),)


def text(name_or_path: str) -> str:
    """Returns the files of scenarios as they are written.

    Raises:
        ConfigurationError: There is none.
    """
    if name_or_path == "default":
        return "---\n".join(text(name) for name in DEFAULT)
    if name_or_path in names():
        preset = resources.files("scheduler.scenario") / "presets" / f"{name_or_path}{_SUFFIX}"
        return preset.read_text("utf-8")
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(names())
        raise ConfigurationError(f"{name_or_path} is neither a preset ({known}) nor a file")
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{name_or_path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name_or_path} is no text") from None


def _parse(content: str, origin: str, folder: Path | None) -> Scenario:
    import yaml  # nothing else here reads YAML

    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError:
        raise ConfigurationError(f"{origin} is not YAML") from None
    return parse(document, origin, folder)
