"""The first window of a model, computed for nobody: an actor is ready only after it."""

from __future__ import annotations

import numpy as np

from model_actor.plugin import Model, PacketSource, SessionOptions, WindowTask

_LUMA, _CHROMA = 16, 128
"""Black, in limited range."""


def warm_up(model: Model) -> bool:
    """Computes a window of black frames in a session of its own. Runs on the compute thread.

    Returns:
        Whether the model's sessions bring their packets, so that nothing is encoded.

    Raises:
        Exception: Whatever the model raises; one that cannot do this can do nothing.
    """
    info = model.info
    source = np.full(
        (info.geometry.first_window, info.height * 3 // 2, info.width), _LUMA, np.uint8
    )
    source[:, info.height :] = _CHROMA
    source.flags.writeable = False
    session = model.open(SessionOptions("warm-up"))
    try:
        task = WindowTask(
            session=session, run=1, index=0, first_frame=0, source=source, seed=0, prompt="warm up"
        )
        for stage in info.stages:
            model.stage(stage.name, [task])
        return isinstance(session, PacketSource)
    finally:
        model.close(session)
