"""A new model package: which names it may have, and its files.

The files are templates of the standard library (`string.Template`), one for one below
`templates/`; each ends with `.tmpl`, so that nothing takes it for code of this project. What
stands in `$` is in `Names`.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Final

from scheduler.core.errors import ConfigurationError

LONGEST: Final = 24
"""Letters of a name."""
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX: Final = ".tmpl"
_PACKAGE: Final = "package"
"""Stands for the package's name in paths of templates."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a new model is called where."""

    name: str
    """By clients, and as a distribution."""
    package: str
    """As a package of Python."""
    class_name: str
    title: str
    """By people."""

    @classmethod
    def of(cls, name: str, taken: Collection[str]) -> Names:
        """Returns the names of a model.

        Args:
            name: As the author wrote it.
            taken: Names of plugins that are installed.

        Raises:
            ConfigurationError: No package can be called so, or something is already.
        """
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            raise ConfigurationError(
                "NAME is made of small letters and digits, with single '-' between them, and "
                f"begins with a letter; at most {LONGEST} characters: my-look"
            )
        if name in taken:
            raise ConfigurationError(
                f"a model called {name!r} is installed here: choose another name"
            )
        package = name.replace("-", "_")
        if keyword.iskeyword(package) or _is_importable(package):
            raise ConfigurationError(
                f"Python knows {package!r} as something else: choose another name"
            )
        words = name.split("-")
        title = " ".join(words)
        return cls(
            name=name,
            package=package,
            class_name="".join(word.capitalize() for word in words) + "Model",
            title=title[0].upper() + title[1:],
        )


def create(names: Names, parent: Path) -> list[Path]:
    """Writes a package, whole or not at all.

    Args:
        names: What it is called.
        parent: The folder in which it gets one of its own; made where there is none.

    Returns:
        Its files.

    Raises:
        ConfigurationError: The folder is there already, or cannot be written.
    """
    folder = parent / names.name
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(f"{folder} is there already: nothing was written")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{names.name}-", dir=parent) as work:
            fresh = Path(work) / names.name
            for path, text in files(names).items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_text(text, encoding="utf-8")
            shutil.move(fresh, folder)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from None
    return [folder / path for path in files(names)]


def files(names: Names) -> dict[str, str]:
    """Returns the files of a package: their text by their path in it."""
    values = asdict(names)
    found = {}
    for path, template in sorted(_templates(resources.files(__package__) / "templates")):
        parts = [names.package if part == _PACKAGE else part for part in path.split("/")]
        text = Template(template.read_text(encoding="utf-8")).substitute(values)
        found["/".join(parts).removesuffix(_SUFFIX)] = text
    return found


def _templates(folder: Traversable, path: str = "") -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _templates(each, f"{path}{each.name}/")
        elif each.name.endswith(_SUFFIX):
            yield f"{path}{each.name}", each


def _is_importable(package: str) -> bool:
    return package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None
