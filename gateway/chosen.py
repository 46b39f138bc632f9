"""The plugins that the settings choose, found before anything is started."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gateway.auth.jwks_settings import JwksSettings
from gateway.auth.several import SeveralAuth
from gateway.ingress import Authenticator
from gateway.moderation import Moderator
from gateway.moderation.asking import Moderation
from gateway.settings import GatewaySettings
from gateway.webrtc.turn import TurnLogins, read_secret
from scheduler.core.errors import ConfigurationError
from scheduler.process import plugins
from scheduler.process.storage import FilesystemStorage, Storage


def authenticator(settings: GatewaySettings) -> Authenticator:
    """Returns who says who calls.

    Raises:
        PluginError: The plugin is missing or broken.
        ConfigurationError: Its options do not fit it, or name files that cannot be used.
    """
    names = settings.auth.split(",")
    loaded: dict[str, Callable[..., Authenticator]] = {
        name: plugins.load("sana_gateway.auth", name) for name in names
    }
    if len(loaded) > 1 and "none" in loaded:
        raise ConfigurationError("--auth none stands alone: it asks nobody who they are")
    own: dict[str, Any] = {
        "api_keys": settings.api_keys,
        "token_secret": settings.token_secret,
        "jwks": None if settings.jwks == JwksSettings() else settings.jwks,
    }
    options = settings.auth_options | {name: value for name, value in own.items() if value}
    # One that stands alone is given all of them, so that none is passed over in silence.
    taken = {
        name: options if len(loaded) == 1 else _known(plugin, options)
        for name, plugin in loaded.items()
    }
    made: list[Authenticator] = []
    for name, plugin in loaded.items():
        try:
            inspect.signature(plugin).bind(**taken[name])
        except TypeError as error:
            raise ConfigurationError(
                f"the options do not fit --auth {name}: {error}; --api-keys and --token-secret "
                "belong to --auth api-key, which needs the first, and --jwks-issuer and "
                "--jwks-audience to --auth jwks, which needs both"
            ) from None
        made.append(plugin(**taken[name]))
    if unused := sorted(options.keys() - {each for own in taken.values() for each in own}):
        raise ConfigurationError(f"no plugin of --auth {settings.auth} takes {', '.join(unused)}")
    return made[0] if len(made) == 1 else SeveralAuth(made)


def _known(plugin: Callable[..., object], options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that a plugin knows."""
    known = inspect.signature(plugin).parameters
    return {name: value for name, value in options.items() if name in known}


def storage(settings: GatewaySettings) -> Callable[[], Storage]:
    """Returns what makes the storage of uploads.

    Raises:
        PluginError: The plugin is missing or broken.
        ConfigurationError: Its options do not fit it.
    """
    plugin: Callable[..., Storage] = plugins.load("sana_gateway.storage", settings.storage)
    try:
        inspect.signature(plugin).bind(**settings.storage_options)
    except TypeError as error:
        raise ConfigurationError(
            f"storage_options do not fit the storage {settings.storage!r}: {error}; the folder "
            "for uploads, shared with the model actors, is --storage-root"
        ) from None
    return functools.partial(plugin, **settings.storage_options)


def recordings_storage(settings: GatewaySettings, storage: Storage) -> Storage:
    """Returns where recordings are kept: the storage of uploads, or a folder of their own.

    Args:
        settings: What the gateway is started with.
        storage: The storage of uploads.
    """
    folder = settings.recording.folder
    return FilesystemStorage(folder) if folder else storage


def moderation(settings: GatewaySettings) -> Moderation | None:
    """Returns who judges prompts; None: nobody.

    Raises:
        PluginError: The plugin is missing or broken.
        ConfigurationError: Its options do not fit it, or name files that cannot be used.
    """
    wanted = settings.moderation
    if not wanted.plugin:
        return None
    plugin: Callable[..., Moderator] = plugins.load("sana_gateway.moderation", wanted.plugin)
    try:
        inspect.signature(plugin).bind(**wanted.options)
    except TypeError as error:
        raise ConfigurationError(
            f"moderation.options do not fit --moderation {wanted.plugin}: {error}; they are given "
            "with --moderation-option NAME=VALUE"
        ) from None
    moderator = plugin(**wanted.options)
    return Moderation(moderator, timeout_s=wanted.timeout_s, on_failure=wanted.on_failure)


def turn_logins(settings: GatewaySettings) -> TurnLogins | None:
    """Returns what makes logins on TURN servers; None where each has one for all.

    Raises:
        ConfigurationError: The secret cannot be used.
    """
    if not settings.turn_secret:
        return None
    return TurnLogins(read_secret(settings.turn_secret), settings.turn_lifetime_s)
