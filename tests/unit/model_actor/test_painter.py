"""`painter`: what prompts mean, and that the pictures follow them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from model_actor.conformance import check_all
from model_actor.conformance.runs import Run, moving_source
from model_actor.models.painter import PainterModel, words
from model_actor.models.painter import studio as studio_module
from model_actor.models.painter.model import ON_TWOS, PainterSession
from model_actor.models.painter.picture import Picture, View, steady
from model_actor.models.painter.recipe import Dose, normalise, read, shares
from model_actor.models.painter.studio import KEPT_MEDIA, KEPT_MOODS, MEDIA, MOODS, Studio
from model_actor.models.painter.textures import flakes, smooth_curve
from model_actor.models.painter.words import COLOURS, DEGREES, LOOKS, NEGATIONS, TRANSPARENT
from model_actor.plugin import Frames, Model, SessionOptions, WindowTask
from scheduler.core.errors import InvariantError, PluginError
from scheduler.core.geometry import Geometry
from scheduler.core.prompts import Share

pytestmark = pytest.mark.unit

LOOK_NAMES = [*MEDIA, *MOODS]


@pytest.fixture(scope="module")
def model() -> PainterModel:
    model = PainterModel()
    model.configure({})
    model.load()
    return model


@pytest.fixture(scope="module")
def studio(model: PainterModel) -> Studio:
    assert model._studio is not None
    return model._studio


@pytest.fixture(scope="module")
def source() -> Frames:
    return moving_source(PainterModel.info, 0, 2)


def paint(studio: Studio, source: Frames, prompt: str, seed: int = 7, first: int = 0) -> Frames:
    return studio.paint(source, read(prompt), seed, first, None)[0]


def difference(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# -- prompts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "media", "moods"),
    [
        ("oil painting", [("oil", 1)], []),
        ("Turn it into a WATERCOLOR!", [("watercolour", 1)], []),
        ("in the style of Van Gogh", [("oil", 1)], []),
        ("oil painting at night", [("oil", 1)], [("night", 1)]),
        ("pencil sketch, snow", [("pencil", 1)], [("snow", 1)]),
        ("cartoon and neon", [("cartoon", 1), ("neon", 1)], []),
        ("cartoon, neon and oil", [("cartoon", 1), ("neon", 1)], []),
        ("slightly snowy", [], [("snow", 0.4)]),
        ("a bit of snow", [], [("snow", 0.5)]),
        ("very slightly sepia", [], [("sepia", 0.52)]),
        ("very dark", [], [("night", 1)]),
        ("70% oil, 30% pencil", [("oil", 0.7), ("pencil", 0.3)], []),
        ("no snow, night", [], [("night", 1)]),
        ("oil but not at night", [("oil", 1)], []),
        ("a cartoon without any snow", [("cartoon", 1)], []),
        ("don't make it dark. Cartoon", [("cartoon", 1)], []),
        ("no people, snow", [], [("snow", 1)]),
        ("film noir", [], [("noir", 1)]),
        ("black and white", [], [("noir", 1)]),
        ("snow and heavy snow", [], [("snow", 1)]),
        ("\uff2f\uff29\uff2c", [("oil", 1)], []),
    ],
)
def test_words_choose_looks(
    prompt: str, media: list[tuple[str, float]], moods: list[tuple[str, float]]
) -> None:
    recipe = read(prompt)
    assert [(dose.look, round(dose.strength, 6)) for dose in recipe.media] == media
    assert [(dose.look, round(dose.strength, 6)) for dose in recipe.moods] == moods
    assert recipe.palette is None


def test_there_are_at_least_eight_looks_and_every_word_leads_to_one() -> None:
    assert {"oil", "pencil", "cartoon", "night", "sepia", "snow", "neon", "watercolour"} <= set(
        LOOK_NAMES
    )
    assert set(LOOKS.values()) == set(LOOK_NAMES) == set(words.MEDIA) | set(words.MOODS)
    for phrase, look in LOOKS.items():
        recipe = read(phrase)
        assert [dose.look for dose in (*recipe.media, *recipe.moods)] == [look], phrase


def test_no_word_has_two_meanings() -> None:
    tables = [set(LOOKS), set(COLOURS), set(DEGREES), set(NEGATIONS), set(TRANSPARENT)]
    assert not [common for a, b in itertools.combinations(tables, 2) if (common := a & b)]
    every = [w for table in (words.MEDIA, words.MOODS) for ws in table.values() for w in ws.split()]
    assert len(every) == len(set(every))


def test_colours_tint_and_mix() -> None:
    assert read("red").tint == COLOURS["red"]
    assert read("red").palette is None
    red, blue = COLOURS["red"], COLOURS["blue"]
    mean = round((red[0] + blue[0]) / 2), round((red[1] + blue[1]) / 2)
    assert read("red and blue").tint == mean
    faint = read("slightly red oil painting").tint
    assert faint is not None
    assert abs(faint[1]) < abs(red[1]) / 2
    assert read("not red, oil").tint is None


def test_unknown_words_give_a_look_that_depends_on_the_text_alone() -> None:
    recipe = read("a bouncing fish from mars")
    assert recipe.palette is not None
    assert len(recipe.media) == 1
    assert recipe == read("  A Bouncing   fish, from Mars?! ")
    others = {read(f"unknown thing number {number}") for number in "abcdefghijkl"}
    assert len(others) == 12
    assert {recipe.media[0].look for recipe in others} > {"oil"}
    assert read("") == read("...")
    assert normalise("  Ünkñown,\tTEXT ") == "ünkñown text"


def test_a_prompt_that_takes_everything_back_is_unknown() -> None:
    assert read("no snow").palette is not None
    assert read("0% oil").palette is not None


def test_shares_of_two_media_sum_to_one_and_one_medium_keeps_its_strength() -> None:
    two = shares((Dose("oil", 0.5), Dose("neon", 1.0)))
    assert [dose.strength for dose in two] == pytest.approx([1 / 3, 2 / 3])
    assert shares((Dose("oil", 0.4),)) == (Dose("oil", 0.4),)


# -- pictures -----------------------------------------------------------------------------


class SmallPainter(PainterModel):
    """The same at a quarter of the size and with short windows, to be quick."""

    info = replace(
        PainterModel.info,
        width=320,
        height=176,
        geometry=Geometry(first_window=5, window=4, chunk=4),
    )


def test_keeps_to_the_interface() -> None:
    model: Model = SmallPainter()
    model.load()
    check_all(model)


def test_looks_differ_from_the_source_and_from_one_another(studio: Studio, source: Frames) -> None:
    pictures = {"source": source} | {name: paint(studio, source, name) for name in LOOK_NAMES}
    for (a, first), (b, second) in itertools.combinations(pictures.items(), 2):
        assert difference(first, second) > 4, (a, b)


@pytest.mark.parametrize("look", LOOK_NAMES)
def test_the_seed_changes_the_texture_reproducibly(
    studio: Studio, source: Frames, look: str
) -> None:
    one = paint(studio, source, look, seed=1)
    assert np.array_equal(one, paint(studio, source, look, seed=1))
    assert not np.array_equal(one, paint(studio, source, look, seed=2**53 - 1))


def test_the_same_seed_gives_the_same_after_the_texture_was_dropped(
    studio: Studio, source: Frames
) -> None:
    one = paint(studio, source, "sepia", seed=1)
    for seed in range(2, KEPT_MOODS + 3):
        studio._mood("noir", seed)
    assert ("sepia", 1) not in studio._moods
    assert len(studio._moods) <= KEPT_MOODS
    assert np.array_equal(one, paint(studio, source, "sepia", seed=1))


def test_strength_lies_between_the_source_and_the_full_look(studio: Studio, source: Frames) -> None:
    full = paint(studio, source, "neon")
    half = paint(studio, source, "half neon")
    assert difference(half, source) == pytest.approx(difference(full, source) / 2, rel=0.1)


def test_two_media_blend(studio: Studio, source: Frames) -> None:
    oil, neon = paint(studio, source, "oil"), paint(studio, source, "neon")
    both = paint(studio, source, "oil and neon")
    mean = (oil.astype(int) + neon) / 2
    assert np.abs(both - mean).max() <= 1


def test_a_colour_moves_the_chroma_and_leaves_the_luma(studio: Studio, source: Frames) -> None:
    red = paint(studio, source, "red")
    assert np.array_equal(red[:, :704], source[:, :704])
    chroma = red[:, 704:].reshape(2, 2, -1).astype(int)
    assert chroma[:, 1].mean() > 128 + 30


def test_snow_falls_on_a_picture_that_stands_still(studio: Studio, source: Frames) -> None:
    still = np.repeat(source[:1], 3, axis=0)
    snow = paint(studio, still, "snow")
    assert difference(snow[0], snow[1]) > 0.5
    assert difference(snow[1], snow[2]) > 0.5


@pytest.mark.parametrize("look", ["oil", "pencil", "cartoon", "watercolour", "sunset"])
def test_a_still_picture_stays_still(studio: Studio, source: Frames, look: str) -> None:
    still = np.repeat(source[:1], 3, axis=0)
    painted = paint(studio, still, look)
    assert np.array_equal(painted[0], painted[2])


def test_noise_is_steadied_and_motion_is_not_smeared() -> None:
    rng = np.random.default_rng(5)
    ground = np.full((64, 96), 100, np.uint8)
    former, steadied = None, []
    for _ in range(20):
        former = steady(ground + rng.integers(0, 6, ground.shape, dtype=np.uint8), former)
        steadied.append(former)
    change = np.abs(np.diff(np.array(steadied[10:], int), axis=0)).mean()
    noise = np.abs(np.diff(rng.integers(0, 6, (10, 64, 96)), axis=0)).mean()
    assert change < noise / 2
    moved = ground.copy()
    moved[10:30, 10:30] = 200
    assert (steady(moved, former)[10:30, 10:30] == 200).all()


def window(model: PainterModel, session: object, index: int, prompt: str) -> WindowTask:
    run = Run(model, prompt=prompt)
    run.index = index
    task = run.task()
    task.session = session
    return task


def test_a_new_prompt_shows_from_the_first_frame_of_its_window(model: PainterModel) -> None:
    results = {}
    for first in ("oil painting", "snow"):
        session = model.open(SessionOptions("s"))
        model.stage("generate", [window(model, session, 0, first)])
        task = window(model, session, 1, "snow")
        model.stage("generate", [task])
        results[first] = task.result
    assert results["snow"] is not None
    assert results["oil painting"] is not None
    assert np.array_equal(results["snow"], results["oil painting"])


def test_a_transition_fades_from_look_to_look(model: PainterModel) -> None:
    made = {}
    for share in (0.0, 0.25, 0.75, 1.0):
        session = model.open(SessionOptions("s"))
        task = window(model, session, 0, "cartoon" if share == 1.0 else "snow")
        task.earlier = (Share("cartoon", share),) if 0 < share < 1 else ()
        model.stage("generate", [task])
        assert task.result is not None
        made[share] = task.result
    whole = difference(made[0.0], made[1.0])
    for share in (0.25, 0.75):
        assert difference(made[0.0], made[share]) == pytest.approx(share * whole, abs=0.5)
        assert difference(made[1.0], made[share]) == pytest.approx((1 - share) * whole, abs=0.5)


def test_of_several_looks_the_one_that_is_seen_most_fades(model: PainterModel) -> None:
    def painted(*earlier: Share) -> Frames:
        task = window(model, model.open(SessionOptions("s")), 0, "snow")
        task.earlier = earlier
        model.stage("generate", [task])
        assert task.result is not None
        return task.result

    mixed = painted(Share("sepia", 0.2), Share("cartoon", 0.4))
    assert np.array_equal(mixed, painted(Share("cartoon", 0.5)))


def test_a_gap_in_the_source_forgets_what_was_steadied(model: PainterModel) -> None:
    session, fresh = model.open(SessionOptions("s")), model.open(SessionOptions("s"))
    model.stage("generate", [window(model, session, 0, "oil")])
    tasks = [window(model, each, 2, "oil") for each in (session, fresh)]
    for task in tasks:
        model.stage("generate", [task])
    assert tasks[0].result is not None
    assert tasks[1].result is not None
    assert np.array_equal(tasks[0].result, tasks[1].result)


def test_a_broken_snapshot_is_refused(model: PainterModel) -> None:
    options = SessionOptions("s")
    session = model.open(options)
    model.stage("generate", [window(model, session, 0, "sepia")])
    snapshot = model.snapshot(session)
    assert len(snapshot) < 300_000
    for bad in (b"", b"SIM1" + snapshot[4:], snapshot[:-1], snapshot + b"x"):
        with pytest.raises(PluginError):
            model.restore(options, bad)


def test_with_fewer_steps_every_second_picture_is_painted_and_shown_twice(
    model: PainterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = []

    def counted(view: View, layers: object) -> Picture:
        painted.append(view.time)
        return plain(view, layers)

    plain = studio_module._painted
    monkeypatch.setattr(studio_module, "_painted", counted)
    task = window(model, model.open(SessionOptions("s")), 1, "oil")
    task.steps = ON_TWOS
    model.stage("generate", [task])
    assert painted == [33, *range(34, 57, 2)], "about half of 24"
    frames = task.result
    assert frames is not None
    assert all(np.array_equal(frames[n], frames[n + 1]) for n in range(1, 23, 2))
    assert not np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[2], frames[3])


def test_other_steps_are_our_mistake(model: PainterModel) -> None:
    task = window(model, model.open(SessionOptions("s")), 0, "oil")
    task.steps = 1
    with pytest.raises(InvariantError):
        model.stage("generate", [task])


def test_options_are_refused() -> None:
    with pytest.raises(PluginError, match="speed"):
        PainterModel().configure({"speed": "11"})


def test_use_before_load_or_of_another_models_session_is_our_mistake(model: PainterModel) -> None:
    with pytest.raises(InvariantError):
        PainterModel().stage("generate", [])
    with pytest.raises(InvariantError):
        model.stage("decode", [])
    with pytest.raises(InvariantError):
        model.snapshot(object())


def test_it_says_that_it_is_no_diffusion_model() -> None:
    assert "not a diffusion model" in PainterModel.info.summary


def test_the_plugin_is_imported_without_opencv_and_load_says_what_is_missing() -> None:
    code = """
import sys
from model_actor.models.painter import PainterModel
assert "cv2" not in sys.modules
sys.modules["cv2"] = None
try:
    PainterModel().load()
except Exception as error:
    print(type(error).__name__, error)
"""
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert child.stdout.startswith("PluginError"), child.stderr
    assert "sana-gateway[painter]" in child.stdout


def array_bytes(value: object) -> int:
    """Bytes of the arrays that an object keeps."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (list, tuple)):
        return sum(array_bytes(item) for item in value)
    slots = getattr(type(value), "__slots__", None)
    named = slots or getattr(value, "__dict__", {})
    return sum(array_bytes(getattr(value, name)) for name in named)


def test_declared_memory_covers_what_is_kept(model: PainterModel, studio: Studio) -> None:
    assert studio._brushes.size_bytes <= model.info.weights_bytes
    media = sorted(array_bytes(studio._medium(name, 3)) for name in MEDIA)
    moods = sorted(array_bytes(studio._mood(name, 3)) for name in MOODS)
    state = array_bytes(PainterSession(0, 0, np.zeros((352, 640), np.uint8)))
    assert media[-1] > 10_000_000, "the count sees the textures"
    most = KEPT_MEDIA * media[-1] + KEPT_MOODS * moods[-1] + model.info.resident_slots * state
    assert most <= model.info.resident_slots * model.info.session_bytes


# -- textures -----------------------------------------------------------------------------


def test_curves_run_through_their_points_without_leaving_them() -> None:
    table = smooth_curve((-6, 34), (48, 255))
    assert table[0] < 60
    assert table[48] == table[255] == 255
    assert (np.diff(table.astype(int)) >= 0).all()


def test_flakes_fit_together_at_the_borders() -> None:
    plane = flakes(np.random.default_rng(1), (60, 80), 60, 4.0, 1.0).astype(int)
    seam = np.abs(plane[:, 0] - plane[:, -1]).mean()
    inside = np.abs(np.diff(plane, axis=1)).mean()
    assert seam < 3 * inside


def test_strokes_cover_everything(studio: Studio) -> None:
    for layer in studio._brushes.layers:
        height, width = layer.anchor.shape[:2]
        y, x = np.mgrid[:height, :width]
        far = np.hypot(layer.anchor[..., 0] - x, layer.anchor[..., 1] - y)
        assert np.percentile(far, 99.5) < 30, "a pixel's stroke is near it"
