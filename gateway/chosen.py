"""The plugins that the settings choose, found before anything is started."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from gateway.ingress import Authenticator
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError
from scheduler.process import plugins
from scheduler.process.storage import Storage


def authenticator(settings: GatewaySettings) -> Authenticator:
    """Returns who says who calls.

    Raises:
        PluginError: The plugin is missing or broken.
    """
    made: Authenticator = plugins.load("sana_gateway.auth", settings.auth)()
    return made


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
