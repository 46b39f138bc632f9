"""From tokens and API keys to principals, and what each of them may do.

An authenticator is a plugin of the group `sana_gateway.auth`. `none` (`NoAuth`) is the one
for one's own machine; `api-key` (`gateway.auth.api_key`) knows the API keys of a file and
exchanges them for short-lived tokens. Every wire asks `gateway.auth` who calls, and the hub
asks it what the caller may do, so that no door is forgotten.
"""

from __future__ import annotations

from gateway.auth.access import ANY_MODEL, Access
from gateway.auth.callers import (
    API_KEY_METADATA,
    KEY_MARK,
    MODEL,
    OPERATOR,
    SESSION,
    Audited,
    KeyAuthenticator,
    NoAuth,
    Preparing,
    Refreshing,
    bearer_token,
    caller_of_metadata,
    prepare,
    require,
    require_any,
)
from gateway.ingress import Authenticator

__all__ = [
    "ANY_MODEL",
    "API_KEY_METADATA",
    "KEY_MARK",
    "MODEL",
    "OPERATOR",
    "SESSION",
    "Access",
    "Audited",
    "Authenticator",
    "KeyAuthenticator",
    "NoAuth",
    "Preparing",
    "Refreshing",
    "bearer_token",
    "caller_of_metadata",
    "prepare",
    "require",
    "require_any",
]
