"""From the claims of a provider's token to who calls and what the caller may do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from gateway.auth.callers import MODEL, OPERATOR, SESSION
from gateway.auth.details import MOST_MODELS, MOST_NAME
from gateway.auth.jwks_settings import JwksSettings
from gateway.auth.limits import UNLIMITED, Limits
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Grant, Principal

SCOPES: Final = frozenset({SESSION, OPERATOR, MODEL})


def principal_of(claims: Mapping[str, Any], settings: JwksSettings) -> Principal:
    """Returns who shows a token that was verified.

    Args:
        claims: What it says.
        settings: What that means.

    Raises:
        ForbiddenError: It names no tenant or user, or limits that make no sense.
    """
    tenant, user = found(claims, settings.tenant_claim), claims.get("sub")
    if not _is_name(tenant) or not _is_name(user):
        raise ForbiddenError("the token names no tenant, or none that can be used")
    limits = _limits(found(claims, settings.limits_claim))
    models = _texts(found(claims, settings.models_claim))
    if models is not None and len(models) > MOST_MODELS:
        raise ForbiddenError("the token names too many models")
    return Principal(
        tenant=settings.tenant_prefix + str(tenant),
        scopes=_scopes(claims, settings),
        holders=(limits.holder(f"user:{user}"),),
        grant=Grant(
            models=() if models is None else (frozenset(models),),
            max_session_s=limits.max_session_duration,
        ),
    )


def found(claims: Mapping[str, Any], name: str) -> object:
    """Returns a claim by its name, or by the names of objects that it lies in with dots between;
    None where there is none.
    """
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _scopes(claims: Mapping[str, Any], settings: JwksSettings) -> frozenset[str]:
    told = _texts(found(claims, settings.scope_claim))
    if told is None:
        return frozenset(settings.default_scopes)
    prefix = settings.scope_prefix
    return SCOPES & {each.removeprefix(prefix) for each in told if each.startswith(prefix)}


def _texts(value: object) -> list[str] | None:
    """Returns what is written as a list, or as a text with spaces; None where there is nothing."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _limits(value: object) -> Limits:
    if value is None:
        return UNLIMITED
    try:
        return Limits.model_validate(value)
    except ValidationError:
        raise ForbiddenError("the limits that the token names make no sense") from None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MOST_NAME and value.isprintable()
