"""The embedded default model: edits video on the CPU, by image processing, no diffusion."""

from model_actor.models.painter.model import PainterModel

__all__ = ["PainterModel"]
