"""The plugins that the settings choose, found before anything is started."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from gateway.ingress import Authenticator
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError
from scheduler.process import plugins
from scheduler.process.storage import FilesystemStorage, Storage


def authenticator(settings: GatewaySettings) -> Authenticator:
    """Returns who says who calls.

    Raises:
        PluginError: The plugin is missing or broken.
        ConfigurationError: Its options do not fit it, or name files that cannot be used.
    """
    plugin: Callable[..., Authenticator] = plugins.load("sana_gateway.auth", settings.auth)
    own = {"api_keys": settings.api_keys, "token_secret": settings.token_secret}
    options = settings.auth_options | {name: value for name, value in own.items() if value}
    try:
        inspect.signature(plugin).bind(**options)
    except TypeError as error:
        raise ConfigurationError(
            f"the options do not fit --auth {settings.auth}: {error}; --api-keys and "
            "--token-secret belong to --auth api-key, which needs the first"
        ) from None
    return plugin(**options)


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
