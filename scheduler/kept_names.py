"""Where the kept state of a session lies in the storage.

Actors keep states there (`model_actor.snapshots`); gateways look there before they remove uploads
that nobody seems to own (`gateway.upload_retention`).
"""

from __future__ import annotations

import hashlib
from typing import Final

FOLDER: Final = "kept"
"""First segment of all keys."""


def key_of(session_id: str) -> str:
    """Returns what names a session in files and keys: its id may not fit there."""
    return hashlib.blake2b(session_id.encode(), digest_size=16).hexdigest()


def folder_of(session_id: str) -> str:
    """Returns below which key all lies that is kept of a session."""
    return f"{FOLDER}/{key_of(session_id)}"
