"""From a prompt to what is to be painted: a pure function over a table of words.

A prompt names *media* (how the picture is made: oil, pencil, ...), *moods* (what is done
to it afterwards: night, snow, ...) and colours. Two media blend by weight; moods lie on
top of one another. A prompt in which no word is known still has a look of its own, taken
from a digest of the text: it is arbitrary, but always the same.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from model_actor.models.painter.words import (
    COLOURS,
    DEGREES,
    LOOKS,
    MEDIA,
    NEGATIONS,
    PHRASE_WORDS,
    TRANSPARENT,
)

MOST_MEDIA = 2
"""Media that are blended; each further one would cost its full time."""
MOST_MOODS = 3
"""Moods that are laid over one another."""
_TOKEN = re.compile(r"[^\W\d_]+|\d{1,3}\s*%|[.;!?]")
_CLAUSE_ENDS = frozenset(".;!?")


@dataclass(frozen=True, slots=True)
class Dose:
    """A look and how much of it: 1 is all of it."""

    look: str
    strength: float


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours for shadows, middle tones and lights, as chroma offsets from grey."""

    shadows: tuple[int, int]
    middle: tuple[int, int]
    lights: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a prompt asks for."""

    media: tuple[Dose, ...] = ()
    """At most two; their strengths are shares where there are two."""
    moods: tuple[Dose, ...] = ()
    tint: tuple[int, int] | None = None
    """Offset of U and V towards the colours that were named."""
    palette: Palette | None = None
    """Set only for a text of unknown words."""
    salt: int = 0
    """Moves the textures of a text of unknown words."""


def read(prompt: str) -> Recipe:
    """Reads a prompt.

    Args:
        prompt: Any text. Case, accents' encoding, punctuation and spacing do not matter.

    Returns:
        The looks named, or a look derived from the text when it names none.
    """
    doses: dict[str, float] = {}
    colours: list[tuple[int, int]] = []
    strength, negated = 1.0, False
    for phrase in _phrases(prompt):
        if phrase in DEGREES:
            strength *= DEGREES[phrase]
        elif phrase.endswith("%"):
            strength = min(100, int(phrase[:-1])) / 100
        elif phrase in NEGATIONS:
            negated = True
        elif look := LOOKS.get(phrase):
            if not negated:
                doses[look] = max(doses.get(look, 0.0), min(1.0, strength))
            strength, negated = 1.0, False
        elif phrase in COLOURS:
            if not negated:
                colours.append(_scaled(COLOURS[phrase], min(1.3, strength)))
            strength, negated = 1.0, False
        elif phrase not in TRANSPARENT:
            strength, negated = 1.0, False
    doses = {look: dose for look, dose in doses.items() if dose > 0}
    if not doses and not colours:
        return _unknown(prompt)
    return Recipe(
        media=tuple(Dose(*dose) for dose in doses.items() if dose[0] in MEDIA)[:MOST_MEDIA],
        moods=tuple(Dose(*dose) for dose in doses.items() if dose[0] not in MEDIA)[:MOST_MOODS],
        tint=_mean(colours) if colours else None,
    )


def shares(media: tuple[Dose, ...]) -> tuple[Dose, ...]:
    """Scales the strengths of two media so that they sum to 1; one alone keeps its own."""
    total = sum(dose.strength for dose in media)
    if len(media) < MOST_MEDIA:
        return media
    return tuple(replace(dose, strength=dose.strength / total) for dose in media)


def normalise(prompt: str) -> str:
    """Returns the words of a prompt, without case, punctuation and spacing."""
    return " ".join(re.findall(r"\w+", _fold(prompt)))


def _fold(prompt: str) -> str:
    return unicodedata.normalize("NFKC", prompt).casefold()


def _phrases(prompt: str) -> Iterator[str]:
    """Yields tokens, the longest known phrases of several words taken as one."""
    tokens = [token.replace(" ", "") for token in _TOKEN.findall(_fold(prompt))]
    at = 0
    while at < len(tokens):
        for length in range(min(PHRASE_WORDS, len(tokens) - at), 0, -1):
            phrase = " ".join(tokens[at : at + length])
            if length == 1 or phrase in LOOKS or phrase in COLOURS or phrase in DEGREES:
                break
        at += length
        yield phrase if phrase not in _CLAUSE_ENDS else "."


def _scaled(chroma: tuple[int, int], factor: float) -> tuple[int, int]:
    return round(chroma[0] * factor), round(chroma[1] * factor)


def _mean(colours: list[tuple[int, int]]) -> tuple[int, int]:
    us, vs = zip(*colours, strict=True)
    return round(sum(us) / len(us)), round(sum(vs) / len(vs))


def _unknown(prompt: str) -> Recipe:
    """Derives a medium, a palette and a shift of the textures from the text."""
    digest = hashlib.blake2b(normalise(prompt).encode(), digest_size=16).digest()
    wheel = sorted(COLOURS.items())
    hues = [wheel[byte % len(wheel)][1] for byte in digest[:3]]
    medium = UNKNOWN_MEDIA[digest[3] % len(UNKNOWN_MEDIA)]
    return Recipe(
        media=(Dose(medium, 1.0),),
        palette=Palette(shadows=hues[0], middle=_scaled(hues[1], 0.7), lights=hues[2]),
        salt=int.from_bytes(digest[4:8], "big"),
    )


UNKNOWN_MEDIA = ("oil", "watercolour", "cartoon")
"""What a text of unknown words may be painted with: media that keep the palette visible."""
