"""A publisher that is not ours: FFmpeg's own WHIP muxer, as `ffmpeg -f whip` uses it.

Run as a program: `python ffmpeg.py URL LEVEL`. It publishes grey of this luma, with sound, in
real time, says so on standard output, and ends in order when its standard input does.

Its certificate is made here: that of an FFmpeg with GnuTLS is on a curve (P-224) that neither
browsers nor a present-day OpenSSL take.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

WIDTH, HEIGHT, RATE = 320, 192, 24
SOUND_RATE, SOUND_FRAME = 48_000, 960
HIGH = {"preset": "ultrafast", "tune": "zerolatency", "profile": "high", "x264-params": "8x8dct=1"}
"""The profile that FFmpeg's users get who choose none, and that no browser offers alone."""


def publish(url: str, level: int, ended: threading.Event, folder: Path) -> None:
    """Publishes until told to end; raises what FFmpeg says where it is refused."""
    with av.open(url, "w", format="whip", options=certificate(folder)) as container:
        video = container.add_stream("libx264", rate=RATE, options=HIGH)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size, video.codec_context.max_b_frames = RATE, 0
        sound = container.add_stream("libopus", rate=SOUND_RATE)
        sound.layout = "stereo"
        silence = np.zeros((1, 2 * SOUND_FRAME), np.int16)
        began, frame, heard = time.monotonic(), 0, 0
        while not ended.wait(max(0.0, began + frame / RATE - time.monotonic())):
            picture = av.VideoFrame.from_ndarray(drawn(level, frame), format="yuv420p")
            picture.pts, picture.time_base = frame, Fraction(1, RATE)
            container.mux(video.encode(picture))
            while heard * SOUND_FRAME * RATE < frame * SOUND_RATE:
                samples = av.AudioFrame.from_ndarray(silence, format="s16", layout="stereo")
                samples.sample_rate, samples.pts = SOUND_RATE, heard * SOUND_FRAME
                container.mux(sound.encode(samples))
                heard += 1
            frame += 1
            if frame == 1:
                print("publishing", flush=True)


def pictures(level: int) -> list[bytes]:
    """Returns two seconds of the same, encoded."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = Fraction(1, RATE), Fraction(RATE)
    context.options = {"preset": "ultrafast", "tune": "zerolatency"}
    context.gop_size = RATE
    encoded = []
    for frame in range(2 * RATE):
        picture = av.VideoFrame.from_ndarray(drawn(level, frame), format="yuv420p")
        picture.pts = frame
        encoded += [bytes(packet) for packet in context.encode(picture)]
    return encoded


def drawn(level: int, frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Returns an I420 picture: grey, with a bar that moves."""
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = level
    left = frame * 4 % (WIDTH - 16)
    planes[HEIGHT // 4 : HEIGHT // 2, left : left + 16] = 180
    return planes


def certificate(folder: Path) -> dict[str, str]:
    """Makes a certificate; returns FFmpeg's options that name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "publisher")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(1)
    )
    paths = {"cert_file": folder / "cert.pem", "key_file": folder / "key.pem"}
    pem = serialization.Encoding.PEM
    paths["cert_file"].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    paths["key_file"].write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return {option: str(path) for option, path in paths.items()}


def main() -> None:
    """Publishes until standard input ends."""
    url, level = sys.argv[1:]
    ended = threading.Event()

    def read() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        publish(url, int(level), ended, Path(folder))


if __name__ == "__main__":
    main()
