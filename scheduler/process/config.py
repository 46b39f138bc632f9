"""Settings: defaults, below a TOML file, below the environment, below the command line.

Each process declares what it needs in a subclass of `ProcessSettings`, with a docstring
under every field, and loads it once, at start. Nothing else reads the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from scheduler.core.errors import ConfigurationError, InvariantError

PREFIX: Final = "SANA_GATEWAY_"
"""Begins the name of every environment variable of ours."""
NESTED: Final = "__"
"""Parts a section from its field in the name of an environment variable."""

# Kubernetes sets these for every service in the namespace, one called `sana-gateway` included.
_SERVICE_LINK: Final = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$"
)
CONFIG: Final = f"{PREFIX}CONFIG"
"""Names the settings file."""
ROLES: Final = ("head", "actor")
"""Roles whose options are a table of the file each; `process/role_options.py` reads them."""

# Under this name the content of the file travels to where the sources are put in order.
_FILE: Final = "_file_content"


class Section(BaseModel):
    """A group of settings below a name of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ProcessSettings(BaseSettings):
    """Base of the settings of one process: frozen, and without room for unknown names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        # A field may begin with `model_`: that is what we serve.
        protected_namespaces=(),
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - fixed signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - fixed signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Puts the command line over the environment over the file."""
        if not isinstance(init_settings, InitSettingsSource):
            raise InvariantError("pydantic-settings hands over its init source in another way")
        file = init_settings.init_kwargs.pop(_FILE, {})
        return (init_settings, env_settings, InitSettingsSource(settings_cls, file))


_Settings = TypeVar("_Settings", bound=ProcessSettings)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, described for people."""

    key: str
    """Dotted path: `section.field`."""
    variable: str
    """Environment variable."""
    default: str
    """Default as text; `required` if there is none."""
    help: str
    """The docstring of the field."""


def load_settings(
    cls: type[_Settings],
    *,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    siblings: Iterable[type[ProcessSettings]] = (),
) -> _Settings:
    """Builds the settings of a process.

    Args:
        cls: What to build.
        file: A TOML file; its tables are the sections.
        overrides: What the command line says, by field or `{section: {field: ...}}`. None
            stands for an option that was not given.
        siblings: Other settings read by processes that may share this environment; their
            variables are no mistakes.

    Returns:
        The settings, frozen.

    Raises:
        ConfigurationError: The file cannot be read, a name is unknown (the text tells the
            nearest ones), or a value does not fit. The text never repeats a value.
    """
    _refuse_unknown_variables((cls, *siblings))
    try:
        ours = {key: value for key, value in read_file(file).items() if key not in ROLES}
        return cls(**{_FILE: ours, **_given(overrides or {})})
    except ValidationError as error:
        raise ConfigurationError(_explain(cls, error)) from None
    except SettingsError as error:
        raise ConfigurationError(str(error)) from None


def describe(cls: type[BaseModel]) -> list[Setting]:
    """Lists the settings of a class with their help, sections flattened, in order."""
    return [
        Setting(".".join(path), _variable(path), _default(field), field.description or "")
        for path, field in _leaves(cls)
    ]


def help_of(cls: type[BaseModel], key: str) -> str:
    """Returns the docstring of a setting, for the help of a command-line option.

    Raises:
        KeyError: The class has no such setting.
    """
    return {setting.key: setting.help for setting in describe(cls)}[key]


def read_file(file: Path | None) -> dict[str, Any]:
    """Returns what a settings file says; nothing without one.

    Raises:
        ConfigurationError: It cannot be read.
    """
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the settings file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the settings file is not TOML: {error}") from error


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Drops the options that were not given, in sections too."""
    return {
        key: _given(value) if isinstance(value, Mapping) else value
        for key, value in overrides.items()
        if value is not None
    }


def _leaves(
    cls: type[BaseModel], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in cls.model_fields.items():
        path = (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, path)
        else:
            yield path, field


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return str(field.get_default(call_default_factory=True))


def _variable(path: tuple[str, ...]) -> str:
    return PREFIX + NESTED.join(path).upper()


def _refuse_unknown_variables(classes: Iterable[type[BaseModel]]) -> None:
    known = {CONFIG}
    others = tuple(f"{PREFIX}{role}{NESTED}".upper() for role in ROLES)
    for cls in classes:
        known |= {_variable(path) for path, _ in _leaves(cls)}
        # A whole section, or a mapping, may also come as one JSON value.
        known |= {_variable((name,)) for name in cls.model_fields}
    for name in sorted(os.environ):
        upper = name.upper()
        if upper.startswith(others):
            continue
        if upper.startswith(PREFIX) and upper not in known and not _SERVICE_LINK.search(upper):
            raise ConfigurationError(f"unknown environment variable {name}{nearest(upper, known)}")


def _explain(cls: type[BaseModel], error: ValidationError) -> str:
    """Words every fault by the name of its setting, without the value that was refused."""
    known = {".".join(path) for path, _ in _leaves(cls)} | set(cls.model_fields)
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"unknown setting {key}{nearest(key, known)}")
        elif fault["type"] == "missing":
            lines.append(f"the setting {key} is required")
        else:
            lines.append(f"{key or 'the settings'}: {fault['msg']}")
    return "; ".join(lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """Words which names are like an unknown one; empty if none is."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
