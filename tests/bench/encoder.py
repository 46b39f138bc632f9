"""What encoder settings cost and give: `python -m tests.bench.encoder`, as Markdown tables.

Each setting encodes the same I420 frames at the same rates on one thread. Told are CPU
milliseconds a frame, PSNR and SSIM of luma, the rate it kept over what was asked, and its
largest keyframe in milliseconds of the rate. The first row of a table is what is in use; the
others change some of its options.

Contents: a synthetic texture that moves, and the clip given by `--clip` (where there is one),
brought to the model's size by the decode workers' own fitting.
`--steer` measures instead how well a changed bitrate is held.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from model_actor.media.encoding.library import CLOCK_HZ, Library
from model_actor.media.encoding.libvpx import LIBVPX
from model_actor.media.encoding.x264 import X264
from model_actor.media.fitter import Fitter, describe

WIDTH, HEIGHT, RATE = 1280, 704, 24
PEOPLE = Path(__file__).parents[3] / "shared/fixtures/clips/people-24fps-720p.mp4"
"""A real clip that some checkouts have beside them."""
JUDGED_EVERY = 4
"""Quality is measured on every so many frames."""
KEYFRAME_AT = 0.5
"""Where in a content a keyframe is asked for, as a part of it."""
Frame = npt.NDArray[np.uint8]

X264_TRIALS: tuple[Mapping[str, str], ...] = (
    {},
    {"x264-params": "no-deblock=1"},
    {"aq-mode": "1"},
    {"aq-mode": "1", "aq-strength": "0.5"},
    {"x264-params": "no-deblock=0:subme=1"},
    {"x264-params": "no-deblock=0:subme=1", "aq-mode": "1"},
    {"x264-params": "no-deblock=0:subme=2", "partitions": "i4x4"},
    {"x264-params": "no-deblock=0:subme=1:me=hex"},
    {"preset": "superfast"},
    {"preset": "superfast", "aq-mode": "0"},
    {"preset": "superfast", "x264-params": "ref=1:weightp=0", "partitions": "none"},
    {"preset": "superfast", "x264-params": "subme=2"},
    {"preset": "veryfast"},
    {"preset": "veryfast", "x264-params": "ref=1:weightp=0:mbtree=0"},
    {"preset": "veryfast", "x264-params": "ref=1:weightp=0:trellis=0", "aq-mode": "0"},
)
LIBVPX_TRIALS: tuple[Mapping[str, str], ...] = (
    {},
    {"cpu-used": "-4"},
    {"cpu-used": "-5"},
    {"cpu-used": "-5", "static-thresh": "100"},
    {"cpu-used": "-5", "static-thresh": "300"},
    {"cpu-used": "-6"},
    {"cpu-used": "-7"},
    {"cpu-used": "-8"},
    {"cpu-used": "-10"},
    {"cpu-used": "-12"},
    {"noise-sensitivity": "1"},
    {"noise-sensitivity": "4"},
    {"static-thresh": "1"},
    {"static-thresh": "100"},
    {"static-thresh": "1000"},
    {"tune": "ssim"},
    {"slices": "4"},
    {"undershoot-pct": "50", "overshoot-pct": "50"},
    {"overshoot-pct": "100"},
    {"sharpness": "4"},
    {"qmax": "50"},
    {"error-resilient": "default"},
    {"screen-content-mode": "1"},
)
TRIALS = {Codec.H264: X264_TRIALS, Codec.VP8: LIBVPX_TRIALS}
IN_USE = {Codec.H264: X264, Codec.VP8: LIBVPX}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting did to one content at one rate."""

    codec: str
    options: str
    content: str
    bitrate: int
    cpu_ms: float
    psnr_y: float
    ssim_y: float
    rate_kept: float
    keyframe_ms: float


def texture(count: int) -> list[Frame]:
    """Returns a texture that moves one way, a disc that moves another, and a camera's noise."""
    random = np.random.default_rng(1)
    step = 3
    noise = random.normal(0, 1, (HEIGHT * 3 // 2 // 4, (WIDTH + count * step) // 4 + 1))
    coarse = np.repeat(np.repeat(noise, 4, 0), 4, 1)
    smooth = sum(np.roll(coarse, (dy, dx), (0, 1)) for dy in range(4) for dx in range(4)) / 16
    y, x = np.mgrid[0 : smooth.shape[0], 0 : smooth.shape[1]]
    world = np.clip(120 + 30 * smooth + 30 * np.sin(x / 37 + y / 53), 16, 235).astype(np.uint8)
    frames = []
    grain = random.normal(0, 2, (HEIGHT, WIDTH)).round().astype(np.int16)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    for number in range(count):
        frame = np.ascontiguousarray(world[:, number * step : number * step + WIDTH])
        frame[HEIGHT:] = 128
        grain = np.roll(grain, (17, 29), (0, 1))
        centre = WIDTH - 300 - 6 * number % (WIDTH - 600), 352 + round(80 * np.sin(number / 9))
        disc = (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2 < 120**2
        frame[:HEIGHT][disc] = 70 + (columns[disc] - centre[0]) // 4
        np.clip(frame[:HEIGHT] + grain, 16, 235, out=frame[:HEIGHT], casting="unsafe")
        frames.append(frame)
    return frames


def clip(path: Path, count: int) -> list[Frame]:
    """Returns frames of a clip, fitted to the model's size."""
    fitter = Fitter(WIDTH, HEIGHT)
    with av.open(str(path)) as container:
        decoded = container.decode(video=0)
        return [
            fitter.fit(frame, describe(frame)).to_ndarray()
            for frame, _ in zip(decoded, range(count), strict=False)
        ]


def psnr(a: Frame, b: Frame) -> float:
    """Returns the peak signal to noise ratio of two pictures, in decibels."""
    error = np.mean((a.astype(np.float32) - b) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def ssim(a: Frame, b: Frame) -> float:
    """Returns the structural similarity of two pictures, on blocks of 8x8 that overlap by half."""

    def blocks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        h, w = values.shape[0] // 4, values.shape[1] // 4
        small = values[: h * 4, : w * 4].reshape(h, 4, w, 4).sum((1, 3))
        return small[:-1, :-1] + small[1:, :-1] + small[:-1, 1:] + small[1:, 1:]

    x, y = a.astype(np.float32), b.astype(np.float32)
    n = 64
    mx, my = blocks(x) / n, blocks(y) / n
    vx, vy = blocks(x * x) / n - mx * mx, blocks(y * y) / n - my * my
    cov = blocks(x * y) / n - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(index.mean())


def _encoded(library: Library, frames: Sequence[Frame], bitrate: int) -> tuple[list[bytes], float]:
    """Returns the packets of frames and the CPU seconds that they took."""
    context = library.open(EncoderSettings(library.codec, WIDTH, HEIGHT, RATE, bitrate))
    tick = CLOCK_HZ // RATE
    packets, spent = [], 0.0
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_numpy_buffer(frame, format="yuv420p")
        picture.time_base, picture.pts = Fraction(1, CLOCK_HZ), number * tick
        picture.duration = tick
        if number == int(len(frames) * KEYFRAME_AT):
            picture.pict_type = PictureType.I
        begin = time.thread_time()
        made = context.encode(picture)
        spent += time.thread_time() - begin
        packets.append(b"".join(bytes(packet) for packet in made))
    return packets, spent


def judge(
    library: Library, options: str, content: str, frames: Sequence[Frame], bitrate: int
) -> Outcome:
    """Measures one setting."""
    packets, spent = _encoded(library, frames, bitrate)
    decoder = av.CodecContext.create(library.codec.value, "r")
    quality: list[tuple[float, float]] = []
    for number, (packet, frame) in enumerate(zip(packets, frames, strict=True)):
        (decoded,) = decoder.decode(av.Packet(packet))
        if number % JUDGED_EVERY == JUDGED_EVERY - 1:
            luma = decoded.to_ndarray()[:HEIGHT]
            quality.append((psnr(luma, frame[:HEIGHT]), ssim(luma, frame[:HEIGHT])))
    sizes = [len(packet) for packet in packets]
    keyframe = max(sizes[0], sizes[int(len(frames) * KEYFRAME_AT)])
    return Outcome(
        codec=library.codec.value,
        options=options,
        content=content,
        bitrate=bitrate,
        cpu_ms=round(spent / len(frames) * 1e3, 2),
        psnr_y=round(statistics.mean(each[0] for each in quality), 2),
        ssim_y=round(statistics.mean(each[1] for each in quality), 4),
        rate_kept=round(sum(sizes) * 8 / (len(frames) / RATE) / bitrate, 2),
        keyframe_ms=round(keyframe * 8e3 / bitrate),
    )


def trials(
    codecs: Sequence[Codec],
    contents: Mapping[str, Sequence[Frame]],
    rates: Sequence[int],
    only: str,
) -> Iterator[Outcome]:
    """Measures all settings."""
    for codec in codecs:
        for options in TRIALS[codec]:
            name = " ".join(f"{key}={value}" for key, value in options.items()) or "in use"
            if only and only not in name:
                continue
            library = IN_USE[codec].with_options(**options)
            for content, frames in contents.items():
                for rate in rates:
                    yield judge(library, name, content, frames, rate)


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yields the outcomes as Markdown: settings down, contents across, rates in one cell."""
    contents = list(dict.fromkeys(each.content for each in outcomes))
    for codec in dict.fromkeys(each.codec for each in outcomes):
        of_codec = [each for each in outcomes if each.codec == codec]
        rates = " / ".join(f"{rate / 1e6:g}" for rate in dict.fromkeys(o.bitrate for o in of_codec))
        yield f"\n{codec}, at {rates} Mbit/s\n"
        heads = ("CPU ms", "PSNR-Y dB", "SSIM-Y", "rate kept", "keyframe ms")
        columns = [f"{content}: {head}" for content in contents for head in heads]
        yield "| " + " | ".join(["settings", *columns]) + " |"
        yield "|" + "---|" * (len(columns) + 1)
        for options in dict.fromkeys(each.options for each in of_codec):
            cells = [f"`{options}`"]
            for content in contents:
                rows = [o for o in of_codec if (o.options, o.content) == (options, content)]
                cells += [
                    " / ".join(f"{value:g}" for value in values)
                    for values in zip(
                        *((o.cpu_ms, o.psnr_y, o.ssim_y, o.rate_kept, o.keyframe_ms) for o in rows),
                        strict=True,
                    )
                ]
            yield "| " + " | ".join(cells) + " |"


def steering(codec: Codec, frames: Sequence[Frame], begin: int, target: int) -> dict[str, object]:
    """Changes the bitrate once, and measures each second from then on."""
    encoder = VideoEncoder(EncoderSettings(codec, WIDTH, HEIGHT, RATE, begin))
    for frame in frames[: 2 * RATE]:
        encoder.encode(frame)
    encoder.set_bitrate(target)
    made = [encoder.encode(frame) for frame in frames[2 * RATE :]]
    seconds = [made[at : at + RATE] for at in range(0, len(made) - RATE + 1, RATE)]
    return {
        "codec": codec.value,
        "from": begin,
        "to": target,
        "kept, by second": [
            round(sum(len(each.data) for each in second) * 8 / target, 2) for second in seconds
        ],
        "keyframes": sum(each.keyframe for each in made),
    }


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=PEOPLE, help="a video; left out when missing")
    parser.add_argument("--frames", type=int, default=96, help="frames of each content")
    parser.add_argument("--codec", choices=[codec.value for codec in Codec], help="only this one")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.5, 2.5, 4.0], help="Mbit/s")
    parser.add_argument("--only", default="", help="only settings whose text holds this")
    parser.add_argument("--steer", action="store_true", help="measure changes of the bitrate")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    codecs = [Codec(given.codec)] if given.codec else list(Codec)
    contents = {"texture": texture(given.frames)}
    if given.clip.exists():
        contents["clip"] = clip(given.clip, given.frames)
    if given.steer:
        pairs = [(2.5, 1.5), (2.5, 4.0), (4.0, 1.5), (1.0, 0.5)]
        figures: list[dict[str, object]] = []
        for codec in codecs:
            for name, frames in contents.items():
                for begin, target in pairs:
                    told = steering(codec, frames, int(begin * 1e6), int(target * 1e6))
                    figures.append({"content": name, **told})
                    print(json.dumps(figures[-1]))
    else:
        rates = [int(rate * 1e6) for rate in given.rates]
        outcomes = []
        for outcome in trials(codecs, contents, rates, given.only):
            outcomes.append(outcome)
            print(outcome, file=sys.stderr)
        print("\n".join(table(outcomes)))
        figures = [asdict(outcome) for outcome in outcomes]
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
