"""A model that spends declared time instead of computing, fails on demand, and marks frames."""

from model_actor.models.simulated.model import SimulatedModel

__all__ = ["SimulatedModel"]
