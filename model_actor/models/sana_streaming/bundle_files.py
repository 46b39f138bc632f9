"""The folder that holds all weights, as files: layout, description, checksums. No torch here.

* `config.json`: what it says of itself, a `Description`
* `manifest.json`: size and SHA-256 of every other file
* `transformer/`: diffusers' layout, of `SanaStreamingTransformer`
* `vae/`: diffusers' layout, of `AutoencoderKLLTX2Video`
* `text_encoder/`: transformers' layout, of `Gemma2Model`
* `tokenizer/`: transformers' layout
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from scheduler.core.errors import PluginError

CONFIG: Final = "config.json"
MANIFEST: Final = "manifest.json"
TRANSFORMER: Final = "transformer"
VAE: Final = "vae"
TEXT_ENCODER: Final = "text_encoder"
TOKENIZER: Final = "tokenizer"
PARTS: Final = (TRANSFORMER, VAE, TEXT_ENCODER, TOKENIZER)
FORMAT: Final = "sana-streaming"
VERSION: Final = 1
CELL: Final = 32
"""Pixels of a latent, either way."""

_READ_BYTES: Final = 1 << 22
_READERS: Final = 4
_HOW: Final = "make a bundle with `sana-gateway weights convert`"


class BundleError(PluginError):
    """A bundle of weights is missing, damaged, or not what the model needs."""


Decoder = Literal["causal", "windowed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a bundle says of itself."""

    decoder: Decoder
    """`causal`: the autoencoder's decoder looks at no later frame. `windowed`: it does, and a
    stream lags two latents behind."""
    prefix: str
    """Instruction that is put before every prompt."""
    prompt_tokens: int = 300
    """Hidden states of a prompt that the transformer sees."""
    width: int = 1280
    """Of pictures, in pixels."""
    height: int = 704
    frame_rate: float = 24.0
    """Frames per second of source and result."""
    licences: tuple[str, ...] = ()
    """Under which the operator has accepted the weights."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        return self.height // CELL, self.width // CELL


def describe(folder: Path) -> Description:
    """Reads the description of a bundle.

    Raises:
        BundleError: There is none, or one that is not understood.
    """
    fields = _json(folder / CONFIG)
    if fields.pop("format", None) != FORMAT:
        raise BundleError(f"{folder} holds something else than SANA-Streaming: {_HOW}")
    if (version := fields.pop("version", None)) != VERSION:
        raise BundleError(f"{folder} has layout {version}, and this program reads {VERSION}")
    try:
        read = Description(**{**fields, "licences": tuple(fields.get("licences", ()))})
        _check(read)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{folder / CONFIG} is not understood: {error}") from None
    return read


def write(folder: Path, description: Description) -> None:
    """Writes the description of a bundle."""
    _check(description)
    head = {"format": FORMAT, "version": VERSION}
    _write_json(folder / CONFIG, {**head, **dataclasses.asdict(description)})


def seal(folder: Path, progress: Callable[[int], None] | None = None) -> None:
    """Writes the manifest of a bundle whose other files are complete.

    Args:
        folder: The bundle.
        progress: Told of bytes as they are read, by any of several threads.
    """
    names = sorted(files_of(folder))
    mode = stat.S_IMODE((folder / CONFIG).stat().st_mode)
    for name in names:
        # Libraries write weights for their own user alone; who serves may be another.
        (folder / name).chmod(mode)
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": digest}
        for name, digest in _digests(folder, names, progress).items()
    }
    _write_json(folder / MANIFEST, {"algorithm": "sha256", "files": files})


@contextmanager
def making(folder: Path, *, force: bool) -> Iterator[Path]:
    """Makes a bundle whole or not at all.

    Args:
        folder: Where it goes.
        force: Whether it may take the place of one that is there.

    Yields:
        An empty folder beside it, which takes its name at the end.

    Raises:
        BundleError: Something is there already, or nothing can be written.
    """
    folder = folder.absolute()
    if folder.exists() and not force:
        raise BundleError(f"{folder} is there already; --force replaces it")
    if force and folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise BundleError(f"{folder} is no bundle: it is not replaced")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            folder.rename(work / "old")
        fresh.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def files_of(folder: Path) -> set[str]:
    """Returns the files of a bundle that a manifest lists."""
    found = {
        path.relative_to(folder).as_posix()
        for part in PARTS
        for path in (folder / part).rglob("*")
        if path.is_file()
    }
    return found | {CONFIG}


def size_of(folder: Path) -> int:
    """Returns the bytes of a bundle's files."""
    return sum((folder / name).stat().st_size for name in files_of(folder))


def verify(folder: Path, progress: Callable[[int], None] | None = None) -> None:
    """Compares a bundle with its manifest.

    Sizes first: what is truncated is found before anything long is read.

    Args:
        folder: The bundle.
        progress: Told of bytes as they are read, by any of several threads.

    Raises:
        BundleError: A file is missing, truncated, changed, or not listed.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no folder {folder}: {_HOW}")
    listed = _listed(folder)
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing: the bundle is not whole")
        if (size := path.stat().st_size) != entry["size"]:
            raise BundleError(
                f"{path} has {size} bytes instead of {entry['size']}: it is truncated or another"
            )
    if extra := sorted(files_of(folder) - set(listed)):
        raise BundleError(f"{folder / extra[0]} is no part of the bundle: its manifest lacks it")
    for name, digest in _digests(folder, listed, progress).items():
        if digest != listed[name]["sha256"]:
            raise BundleError(f"{folder / name} is damaged: its SHA-256 is not the manifest's")


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the entries of a manifest."""
    files = _json(folder / MANIFEST).get("files")
    fault = BundleError(f"{folder / MANIFEST} is not understood")
    if not isinstance(files, dict):
        raise fault
    for name, entry in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise fault
        if not isinstance(entry, dict) or not {"size", "sha256"} <= set(entry):
            raise fault
    if missing := sorted({CONFIG, *PARTS} - {PurePosixPath(name).parts[0] for name in files}):
        raise BundleError(f"{folder} is not whole: its manifest lists no {missing[0]}")
    return files


def _check(description: Description) -> None:
    if description.decoder not in {"causal", "windowed"}:
        raise ValueError("decoder is causal or windowed")
    least = 2 * CELL
    if any(side % CELL or side < least for side in (description.width, description.height)):
        raise ValueError(f"width and height are multiples of {CELL}, {least} at least")
    if not 0 < description.frame_rate <= 240:
        raise ValueError("frame_rate is above 0 and at most 240")
    if description.prompt_tokens < 2:
        raise ValueError("prompt_tokens is 2 at least")


def _digests(
    folder: Path, names: Iterable[str], progress: Callable[[int], None] | None
) -> dict[str, str]:
    """Returns the SHA-256 of files, which are read side by side."""
    names = list(names)
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(
            zip(names, pool.map(lambda name: _digest(folder / name, progress), names), strict=True)
        )


def _digest(path: Path, progress: Callable[[int], None] | None) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            total.update(chunk)
            if progress:
                progress(len(chunk))
    return total.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is missing: {_HOW}") from None
    except (OSError, ValueError):
        raise BundleError(f"{path} cannot be read: it is no JSON file") from None
    if not isinstance(read, dict):
        raise BundleError(f"{path} is not understood")
    return read


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
