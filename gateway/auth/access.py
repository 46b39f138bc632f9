"""What a caller's grant lets it do with sessions and models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from sana_gateway.v1 import pool_pb2
from scheduler.core.errors import ForbiddenError, NoCapacityError, NotReadyError
from scheduler.core.ids import Principal

ANY_MODEL: Final = "*"
"""Stands for the model of a session that the scheduler knows, until its lease names it."""
NAMESPACE: Final = "reactor/"
"""Some clients write it before the name of a model; it means the same model."""

_AGAIN_S: Final = 1.0
_STARTING: Final = "the service is starting; try again"
_OTHER_SESSIONS: Final = "this token is for other sessions"
_OTHER_MODELS: Final = "this key or token does not allow this model"


class Access:
    """Asked by the hub at every door.

    Args:
        pool: Returns the pool as last heard; None while the scheduler is away.
    """

    def __init__(self, pool: Callable[[], pool_pb2.DescribePoolResponse | None]) -> None:
        self._pool = pool
        self._names: dict[str, frozenset[str]] = {}
        """Names that each model answers to, by its own. Those of a model whose actors are gone
        stay: its sessions do, too."""

    def may_create(self, principal: Principal, model: str) -> None:
        """Passes when the caller may create sessions of a model.

        Args:
            principal: The caller.
            model: Name of the model, as it was asked for.

        Raises:
            ForbiddenError: Its token is for sessions that exist, or for other models.
            NoCapacityError: That is not known while the scheduler is away.
        """
        if principal.grant.sessions is not None and not principal.grant.own:
            raise ForbiddenError("this token is for sessions that exist: it creates none")
        if not self._allows(principal, model):
            if self._pool() is None:
                # It may be another name of one that is allowed.
                raise NoCapacityError(_STARTING, retry_after_s=_AGAIN_S)
            raise ForbiddenError(_OTHER_MODELS)

    def may_use(self, principal: Principal, session_id: str, owner: Principal, model: str) -> None:
        """Passes when the caller may use a session of its tenant.

        Args:
            principal: The caller.
            session_id: The session.
            owner: Whose it is.
            model: Name of its model, as it was asked for.

        Raises:
            ForbiddenError: Its token is for other sessions or models.
            NotReadyError: That is not known before the session has its place, or while the
                scheduler is away.
        """
        reached = _reaches(principal, session_id, owner)
        if model == ANY_MODEL and (principal.grant.models or not reached):
            # Nor is it known who else it belongs to.
            raise NotReadyError("the session is being placed; try again", retry_after_s=_AGAIN_S)
        if not reached:
            raise ForbiddenError(_OTHER_SESSIONS)
        if not self._allows(principal, model):
            if self._pool() is None:
                raise NotReadyError(_STARTING, retry_after_s=_AGAIN_S)
            raise ForbiddenError(_OTHER_MODELS)

    def may_wake(self, principal: Principal, session_id: str) -> None:
        """Passes when a session that is on no actor may turn out to be one that the caller may
        use: whose it is and its model are known once it has its place.

        Args:
            principal: The caller.
            session_id: The session, of its tenant.

        Raises:
            ForbiddenError: Its token is for other sessions.
        """
        grant = principal.grant
        if grant.sessions is not None and session_id not in grant.sessions and not grant.own:
            raise ForbiddenError(_OTHER_SESSIONS)

    def _allows(self, principal: Principal, model: str) -> bool:
        allowed = principal.grant.models
        return not allowed or allows(allowed, model, self._served())

    def _served(self) -> Iterable[frozenset[str]]:
        pool = self._pool()
        for actor in () if pool is None else pool.actors:
            if actor.names:
                self._names[actor.names[0]] = frozenset(actor.names)
        return self._names.values()


def _reaches(principal: Principal, session_id: str, owner: Principal) -> bool:
    sessions, own = principal.grant.sessions, principal.grant.own
    if sessions is None or session_id in sessions:
        return True
    return bool(own) and own in {each.name for each in owner.holders}


def allows(
    allowed: Iterable[Collection[str]], model: str, served: Iterable[Collection[str]]
) -> bool:
    """Tells whether a model is among those that are allowed, under whichever of its names.

    Where several models answer to one name, all of them have to be allowed.

    Args:
        allowed: Sets of names, each of which has to allow it.
        model: Name of the model, as it was asked for.
        served: Names that each model answers to.
    """
    groups = [names for names in served if model in names]
    return all(_is_named(model, groups, {_bare(name) for name in names}) for names in allowed)


def _is_named(model: str, groups: list[Collection[str]], allowed: Collection[str]) -> bool:
    if _bare(model) in allowed:
        return True
    return bool(groups) and all(any(_bare(each) in allowed for each in group) for group in groups)


def _bare(model: str) -> str:
    return model.removeprefix(NAMESPACE)
