"""Plugins, found through entry points.

Discovery reads metadata only and imports nothing; a plugin is imported when it is chosen.
The groups, and what each expects, are listed in the documentation for plugin authors.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from scheduler.core.errors import PluginError


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """An installed plugin, as its distribution declares it."""

    name: str
    """The name to choose it by."""
    distribution: str
    version: str
    """Version of the distribution."""
    value: str
    """Where it is: `module:attribute`."""


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """An installed plugin, and whether it can be used."""

    plugin: PluginInfo
    error: str | None
    """Why it cannot be loaded; None if it can."""


def discover(group: str) -> list[PluginInfo]:
    """Lists the installed plugins of a group by name, importing none."""
    return [_describe(entry) for entry in _installed(group)]


def load(group: str, name: str, protocol: type | None = None) -> Any:  # noqa: ANN401 - see Returns
    """Imports one plugin.

    Args:
        group: Entry point group, for example `sana_gateway.models`.
        name: Name of the plugin in the group.
        protocol: What the plugin must offer: every public member of this class, methods as
            callables.

    Returns:
        The object that the entry point names: as a rule a class, typed by the group's interface.

    Raises:
        PluginError: No plugin or several of this name, an import that fails, or a member
            that is missing.
    """
    installed = _installed(group)
    chosen = [entry for entry in installed if entry.name == name]
    if not chosen:
        names = ", ".join(dict.fromkeys(entry.name for entry in installed)) or "none"
        raise PluginError(f"no plugin {name!r} in {group}; installed: {names}")
    if len(chosen) > 1:
        owners = ", ".join(_describe(entry).distribution for entry in chosen)
        raise PluginError(f"several plugins are called {name!r} in {group}: from {owners}")
    return _load(chosen[0], protocol)


def report(group: str, protocol: type | None = None) -> list[PluginStatus]:
    """Tries every plugin of a group; a broken one does not keep the others from being tried."""
    statuses = []
    for entry in _installed(group):
        try:
            _load(entry, protocol)
        except PluginError as error:
            statuses.append(PluginStatus(_describe(entry), str(error)))
        else:
            statuses.append(PluginStatus(_describe(entry), None))
    return statuses


def _installed(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value))


def _describe(entry: EntryPoint) -> PluginInfo:
    distribution = entry.dist
    return PluginInfo(
        name=entry.name,
        distribution=distribution.name if distribution else "unknown",
        version=distribution.version if distribution else "unknown",
        value=entry.value,
    )


def _load(entry: EntryPoint, protocol: type | None) -> Any:  # noqa: ANN401 - see load
    try:
        plugin = entry.load()
    except Exception as error:
        raise PluginError(
            f"plugin {entry.name!r} ({entry.value}) failed to load: {type(error).__name__}: {error}"
        ) from error
    if protocol is not None and (faults := _faults(plugin, protocol)):
        raise PluginError(
            f"plugin {entry.name!r} ({entry.value}) is no {protocol.__name__}: {'; '.join(faults)}"
        )
    return plugin


def _faults(plugin: object, protocol: type) -> list[str]:
    """Says what a plugin lacks. `issubclass` cannot: it refuses protocols with attributes."""
    offered = set(dir(plugin))
    for kind in getattr(plugin, "__mro__", ()):
        # A dataclass declares its attributes without setting them.
        offered |= set(getattr(kind, "__annotations__", {}))
    faults = []
    for name, is_method in sorted(_members(protocol).items()):
        if name not in offered:
            faults.append(f"{name} is missing")
        elif is_method and not callable(getattr(plugin, name, None)):
            faults.append(f"{name} is not a method")
    return faults


def _members(protocol: type) -> dict[str, bool]:
    """Returns the public members of an interface, and which of them are methods."""
    members: dict[str, bool] = {}
    for kind in reversed(protocol.__mro__):
        if kind.__module__ in {"builtins", "typing"}:
            continue
        for name in {*vars(kind), *getattr(kind, "__annotations__", {})}:
            if not name.startswith("_"):
                members[name] = callable(vars(kind).get(name))
    return members
