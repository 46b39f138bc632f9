"""The studio: keeps the looks that are in use, and paints frames by a recipe."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from model_actor.models.painter import media, moods
from model_actor.models.painter.picture import Picture, Plane, View, mix, planes, shrink, steady
from model_actor.models.painter.recipe import Recipe, shares
from model_actor.models.painter.textures import Rng, Size
from model_actor.plugin import Frames

_Key = TypeVar("_Key")
_Look = TypeVar("_Look")

MOODS: dict[str, Callable[[Rng, Size], moods.Mood]] = {
    "night": moods.Night,
    "sepia": moods.Sepia,
    "snow": moods.Snow,
    "sunset": moods.Sunset,
    "noir": moods.Noir,
}
MEDIA: dict[str, Callable[[Rng, Size, media.Brushes], media.Medium]] = {
    "oil": media.Oil,
    "pencil": lambda rng, size, _: media.Pencil(rng, size),
    "cartoon": lambda rng, size, _: media.Cartoon(rng, size),
    "watercolour": lambda rng, size, _: media.Watercolour(rng, size),
    "neon": lambda rng, size, _: media.Neon(rng, size),
}
KEPT_MEDIA, KEPT_MOODS = 16, 24
"""Looks with their textures kept for reuse, least recently used first out. Enough for eight
sessions with a seed each and as many looks as a recipe may have."""
_ORDER = {name: number for number, name in enumerate([*MEDIA, *MOODS])}


_NUMBERS = {name: number for number, name in enumerate([*MEDIA, *MOODS])}


@dataclass(frozen=True, slots=True)
class _Layers:
    """What a recipe comes to for one seed, with the share of each."""

    media: tuple[tuple[media.Medium, float], ...]
    moods: tuple[tuple[moods.Mood, float], ...]


class Studio:
    """Paints. Keeps textures only: what it paints depends on its arguments alone."""

    def __init__(self, size: Size) -> None:
        cv2.setNumThreads(1)
        self._size = size
        self._brushes = media.Brushes(size)
        self._media: OrderedDict[tuple[str, int], media.Medium] = OrderedDict()
        self._moods: OrderedDict[tuple[str, int], moods.Mood] = OrderedDict()

    def paint(
        self,
        source: Frames,
        recipe: Recipe,
        seed: int,
        first: int,
        former: Plane | None,
        *,
        every: int = 1,
    ) -> tuple[Frames, Plane | None]:
        """Paints consecutive frames.

        Args:
            source: I420 frames, shape `(frames, height * 3 // 2, width)`.
            recipe: What the prompt asks for.
            seed: Chooses the textures.
            first: Index of the first frame in the run.
            former: The steadied luma after the frame before, as the last call returned it.
            every: With 2, every second picture of the run is painted and shown twice, as
                animators draw "on twos"; the first one of a call is always painted.

        Returns:
            As many frames, and the steadied luma to go on from.
        """
        layers = self._layers(recipe, seed)
        result = np.empty_like(source)
        for number, frame in enumerate(source):
            if number and (first + number) % every:
                result[number] = result[number - 1]
                continue
            full = planes(frame)
            former = steady(shrink(full.y), former)
            picture = _painted(View(full, former, shrink(former), first + number), layers)
            target = planes(result[number])
            target.y[:], target.u[:], target.v[:] = picture.y, picture.u, picture.v
        return result, former

    @staticmethod
    def fade(frames: Frames, other: Frames, share: float) -> Frames:
        """Returns frames with so much of others over them."""
        faded = np.empty_like(frames)
        for number, frame in enumerate(frames):
            cv2.addWeighted(frame, 1.0 - share, other[number], share, 0.0, dst=faded[number])
        return faded

    def _layers(self, recipe: Recipe, seed: int) -> _Layers:
        chosen: list[tuple[moods.Mood, float]] = []
        if recipe.palette:
            chosen.append((moods.Graded(recipe.palette), 1.0))
        chosen += [(self._mood(dose.look, seed), dose.strength) for dose in recipe.moods]
        if recipe.tint:
            chosen.append((moods.Tint(recipe.tint), 1.0))
        mediums = [
            (self._medium(dose.look, seed ^ recipe.salt), dose.strength)
            for dose in shares(recipe.media)
        ]
        return _Layers(tuple(mediums), tuple(chosen))

    def _medium(self, name: str, seed: int) -> media.Medium:
        def make() -> media.Medium:
            return MEDIA[name](_rng(name, seed), self._size, self._brushes)

        return _kept(self._media, KEPT_MEDIA, (name, seed), make)

    def _mood(self, name: str, seed: int) -> moods.Mood:
        def make() -> moods.Mood:
            return MOODS[name](_rng(name, seed), self._size)

        return _kept(self._moods, KEPT_MOODS, (name, seed), make)


def _rng(name: str, seed: int) -> Rng:
    return np.random.default_rng([_NUMBERS[name], seed])


def _kept(
    shelf: OrderedDict[_Key, _Look], room: int, key: _Key, make: Callable[[], _Look]
) -> _Look:
    """Returns a look from the shelf, made if it is not there; drops the least recently used."""
    look = shelf.pop(key, None) or make()
    shelf[key] = look
    if len(shelf) > room:
        shelf.popitem(last=False)
    return look


def _painted(view: View, layers: _Layers) -> Picture:
    picture = view.full
    for number, (medium, share) in enumerate(layers.media):
        # Two media blend with one another, by the share of the second; one with the source.
        whole = number == 0 and len(layers.media) > 1
        picture = mix(picture, medium.paint(view), 1.0 if whole else share)
    for mood, strength in layers.moods:
        picture = mix(picture, mood.grade(picture, view.time), strength)
    return picture
