"""A session's state as parts: what changes, and the first window, which is seen for ever.

The parts one after the other are one safetensors file. A fifth of what the transformer remembers
at 1280x704 is keys and values of the first window; they do not change while the run goes on.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

import torch
from torch import Tensor

from model_actor.models.sana_streaming import tensor_bytes
from model_actor.models.sana_streaming.session import SanaSession
from model_actor.models.sana_streaming.staging import Copier, TensorBytes
from model_actor.plugin import SnapshotParts
from scheduler.core.errors import PluginError

_HEADER: Final = "header"
_SINK: Final = "sink"
_CONSTANT: Final = ("state.sink_keys", "state.sink_values")


@torch.inference_mode()
def taken(session: SanaSession, copier: Copier) -> SnapshotParts:
    """Returns a session between two windows; nothing of it is copied yet.

    Args:
        session: The session.
        copier: Reads its tensors.
    """
    tensors = session.tensors()
    constant: dict[str, Tensor] = {name: tensors.pop(name) for name in _CONSTANT if name in tensors}
    if constant and not session.sink:
        session.sink = secrets.token_hex(16)
    header = {**session.header(), _SINK: session.sink}
    told = tensor_bytes.head({**tensors, **constant}, {_HEADER: json.dumps(header)})
    return SnapshotParts(
        TensorBytes(told, [*tensors.values()], copier),
        {session.sink: TensorBytes(b"", [*constant.values()], copier)} if constant else {},
    )


def restored(snapshot: memoryview, device: torch.device) -> SanaSession:
    """Makes a session of the bytes of the parts, one after the other.

    Args:
        snapshot: The bytes; best writable, others are copied.
        device: Where the session is to be.

    Raises:
        PluginError: They are no snapshot of this version.
    """
    data = memoryview(bytearray(snapshot)) if snapshot.readonly else snapshot
    try:
        metadata, tensors = tensor_bytes.read(data, device)
        header: dict[str, Any] = json.loads(metadata[_HEADER])
        session = SanaSession.from_tensors(header, tensors)
        session.sink = str(header[_SINK])
    except (ValueError, KeyError, TypeError) as error:
        raise PluginError("not a snapshot of sana-streaming") from error
    return session
