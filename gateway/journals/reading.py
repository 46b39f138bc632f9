"""Reads journals from the storage, for who may."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateway.audit import AuditLog
from gateway.auth import OPERATOR, Access
from scheduler.core.errors import UnknownSessionError
from scheduler.core.ids import Principal
from scheduler.process import journal_store as store
from scheduler.process.storage import Storage

_NONE = "no journal is kept of such a session"


class SessionJournals:
    """The journals of a service.

    Args:
        storage: Where they lie.
        access: Tells who may use which session.
        audit: Remembers which operator read what.
    """

    def __init__(self, storage: Storage, access: Access, audit: AuditLog | None = None) -> None:
        self._audit = audit or AuditLog()
        self._storage = storage
        self._access = access

    async def read(self, principal: Principal, session_id: str) -> AsyncIterator[bytes]:
        """Yields a journal, piece by piece.

        Args:
            principal: Who asks: an operator, or whoever may use the session.
            session_id: Which.

        Raises:
            UnknownSessionError: There is none, or it is another tenant's.
            ForbiddenError: The caller's token is for other sessions or models.
            StorageError: The storage failed.
        """
        folder = await store.find(self._storage, session_id) if _is_name(session_id) else None
        if folder is None:
            raise UnknownSessionError(_NONE)
        owner = store.JournalOwner.read(await self._storage.get(f"{folder}/{store.OWNER}"))
        if OPERATOR in principal.scopes:
            self._audit.record(principal, "session.journal", session_id)
        else:
            if owner.principal.tenant != principal.tenant:
                raise UnknownSessionError(_NONE)
            self._access.may_use(principal, session_id, owner.principal, owner.model)
        for key in await store.pieces(self._storage, folder):
            yield await self._storage.get(key)


def _is_name(session_id: str) -> bool:
    """Tells whether it can be the name of a folder."""
    return session_id.isascii() and session_id.isalnum() and len(session_id) < 128
