"""The words that `painter` understands."""

from __future__ import annotations

MEDIA: dict[str, str] = {
    "oil": (
        "oil oils oil_painting oil_paint oil_colour painting painted painterly canvas brush "
        "brushstrokes brush_strokes impasto acrylic van_gogh gogh monet impressionist "
        "impressionism impressionistic rembrandt expressionist baroque renaissance fresco"
    ),
    "pencil": (
        "pencil pencil_sketch sketch sketched sketchy drawing drawn graphite charcoal hatching "
        "cross_hatching line_art etching engraving ink_drawing pen_drawing doodle lithograph"
    ),
    "cartoon": (
        "cartoon cartoons cartoonish comic comics comic_book toon toons cel_shaded cel anime manga "
        "animated animation pixar disney ghibli flat_colours flat_colors pop_art vector poster "
        "graphic_novel lego"
    ),
    "watercolour": (
        "watercolour watercolor watercolours watercolors water_colour water_color aquarelle "
        "gouache wash washes pastel pastels bleeding_colours soft_painting tempera"
    ),
    "neon": (
        "neon neons cyberpunk cyber synthwave retrowave vaporwave glowing_edges tron futuristic "
        "futurist hologram holographic laser lasers electric sci_fi science_fiction scifi "
        "robot robots robotic rave blade_runner matrix"
    ),
}
"""Media, and the words for each; `_` stands for a space."""

MOODS: dict[str, str] = {
    "night": (
        "night nights nighttime night_time midnight dark darkness moonlight moonlit moon nocturnal "
        "evening dusk starry starry_night stars after_dark twilight halloween spooky gothic"
    ),
    "sepia": (
        "sepia vintage antique old_photo old_photograph old_film old_fashioned retro nostalgic "
        "nostalgia daguerreotype western victorian old_west historic historical"
    ),
    "snow": (
        "snow snowy snowing snowfall snowflakes snowstorm winter winters wintry winter_wonderland "
        "blizzard frost frosty frozen ice icy arctic christmas cold"
    ),
    "sunset": (
        "sunset sunsets sunrise golden_hour dawn sunlit sunny summer warm autumn autumnal fall "
        "desert fire fiery lava sundown"
    ),
    "noir": (
        "noir film_noir black_and_white black_white monochrome grayscale greyscale grey_scale "
        "silent_film bw"
    ),
}
"""Moods, and the words for each."""

DEGREES: dict[str, float] = {
    "slightly": 0.4,
    "slight": 0.4,
    "subtle": 0.4,
    "subtly": 0.4,
    "faint": 0.35,
    "faintly": 0.35,
    "hint": 0.35,
    "touch": 0.4,
    "bit": 0.5,
    "little": 0.5,
    "light": 0.6,
    "lightly": 0.5,
    "half": 0.5,
    "soft": 0.7,
    "softly": 0.6,
    "somewhat": 0.6,
    "partly": 0.5,
    "moderately": 0.7,
    "mostly": 0.85,
    "very": 1.3,
    "really": 1.3,
    "strongly": 1.3,
    "strong": 1.3,
    "heavy": 1.3,
    "heavily": 1.3,
    "extremely": 1.5,
    "intense": 1.4,
    "totally": 1.5,
    "completely": 1.5,
}
"""Adverbs and the like: factors of the strength of the next look or colour."""

NEGATIONS = frozenset({"no", "not", "without", "never", "minus", "dont", "don"})
"""Words that take back the next look or colour."""

TRANSPARENT = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "as",
        "like",
        "with",
        "into",
        "to",
        "it",
        "is",
        "be",
        "and",
        "or",
        "but",
        "then",
        "style",
        "styled",
        "look",
        "looking",
        "make",
        "turn",
        "t",
        "more",
        "any",
    ]
)
"""Words between a degree, or a negation, and what it belongs to."""

COLOURS: dict[str, tuple[int, int]] = {
    "red": (-14, 46),
    "crimson": (-8, 48),
    "scarlet": (-24, 48),
    "orange": (-40, 30),
    "amber": (-42, 20),
    "golden": (-38, 19),
    "gold": (-38, 19),
    "yellow": (-48, 6),
    "lime": (-36, -22),
    "green": (-24, -32),
    "emerald": (-10, -34),
    "teal": (14, -32),
    "turquoise": (20, -36),
    "cyan": (24, -38),
    "azure": (40, -22),
    "blue": (48, -12),
    "navy": (44, -8),
    "indigo": (44, 4),
    "violet": (40, 16),
    "purple": (36, 22),
    "lilac": (24, 14),
    "magenta": (28, 40),
    "pink": (8, 34),
    "rose": (2, 34),
    "brown": (-20, 16),
    "copper": (-26, 22),
    "silver": (4, -2),
}
"""Colours as offsets of U and V from grey."""


def _index(*tables: dict[str, str]) -> dict[str, str]:
    return {
        word.replace("_", " "): look
        for table in tables
        for look, words in table.items()
        for word in words.split()
    }


LOOKS: dict[str, str] = _index(MEDIA, MOODS)
"""From word or phrase to look."""

PHRASE_WORDS = max(len(phrase.split()) for phrase in LOOKS)
"""Words in the longest phrase."""
