"""`sana-gateway weights`: make the folder of weights that the model is served from, check it.

Nothing is imported at the top that the extra `sana` brings: without it, the commands say how to
install it, and all others work.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from model_actor.models.sana_streaming import bundle_files
from scheduler.core.errors import ConfigurationError

_EXTRA: Final = ("torch", "diffusers", "transformers", "safetensors")
"""Modules of the extra."""
LICENCES: Final = {
    "SANA-Streaming": "weights of the transformer: see the licence on their model card",
    "LTX-2": (
        "weights of the autoencoder, and of the causal one made from it: LTX-2 Community License, "
        "free below a yearly revenue of 10 million dollars, with limits of use that go on to "
        "whoever you serve"
    ),
    "Gemma-2": "text encoder: Gemma Terms of Use and its Prohibited Use Policy",
}
"""Of the parts, which come from three places."""

_EXAMPLES: Final = """Examples:

\b
  sana-gateway weights tiny ./tiny
      random weights, in seconds: the whole model on a CPU, to try it
  sana-gateway weights convert ./bundle --transformer sana_streaming_ar.pth \\
      --vae ltx2_causal_vae_0516 --text-encoder gemma-2-2b-it \\
      --prefix sana_streaming_2b_720p.yaml --accept-licences
  sana-gateway weights verify ./bundle
  sana-gateway serve --model sana-streaming --weights ./bundle

Nothing is downloaded: fetch the released files with the tools of their hosts first.
"""

weights = typer.Typer(
    help="Make and check the weights of the model sana-streaming.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)

Out = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder to make.", file_okay=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")]
FrameRate = Annotated[
    float, typer.Option(min=1, max=240, help="Frames per second of source and result.")
]


@weights.command(epilog=_EXAMPLES)
def convert(
    out: Out,
    transformer: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The released checkpoint, sana_streaming_ar.pth."),
    ],
    vae: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="The autoencoder: ltx2_causal_vae_0516 of the release, or `vae` of LTX-2.",
        ),
    ],
    text_encoder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Gemma-2-2b-it with its tokenizer.")
    ],
    prefix: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The instruction put before prompts: the recipe's YAML file, or a text file.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON or YAML with the sizes of a model that is not the released one: at least "
            "num_heads; what it leaves out follows from the checkpoint.",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Of the weights: bfloat16, float16 or float32.")
    ] = "bfloat16",
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Of pictures, multiples of 32.")
    ] = "1280x704",
    frame_rate: FrameRate = 24.0,
    accept_licences: Annotated[
        bool,
        typer.Option("--accept-licences", help="I have read the licences and accept them."),
    ] = False,
    force: Force = False,
) -> None:
    """Make a bundle of the released files.

    Every tensor is checked by name and shape, and the checkpoint by its size; what is missing,
    truncated or another is named. The bundle appears whole or not at all.
    """
    console = Console(stderr=True)
    _show_licences(console)
    if not accept_licences:
        raise ConfigurationError(
            "the licences are to be read and accepted: repeat the command with --accept-licences"
        )
    _need_extra()
    pixels = _size(size, 32, "--size is WIDTHxHEIGHT, multiples of 32")
    for what, path in (("--vae", vae), ("--text-encoder", text_encoder)):
        if not path.is_dir():
            raise ConfigurationError(f"{what} names no folder: {path}")
    from model_actor.models.sana_streaming import converting

    if dtype not in converting.DTYPES:
        raise ConfigurationError(f"--dtype is one of {', '.join(converting.DTYPES)}")
    sources = converting.Sources(
        transformer=transformer, vae=vae, text_encoder=text_encoder, prefix=prefix, config=config
    )
    with bundle_files.making(out, force=force) as fresh:
        with _steps(console) as step:
            converting.convert(
                sources,
                fresh,
                size=pixels,
                frame_rate=frame_rate,
                licences=tuple(LICENCES),
                dtype=converting.DTYPES[dtype],
                progress=step,
            )
        with _checksums(console, fresh) as read:
            bundle_files.seal(fresh, read)
    _tell(console, out)


@weights.command(epilog=_EXAMPLES)
def verify(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder to check.")],
) -> None:
    """Check a bundle: every file by its checksum, every tensor by its name and shape."""
    _need_extra()
    console = Console(stderr=True)
    with _checksums(console, folder) as read:
        bundle_files.verify(folder, read)
    _tell(console, folder)


@weights.command(epilog=_EXAMPLES)
def tiny(
    out: Out,
    grid: Annotated[
        str,
        typer.Option(
            metavar="ROWSxCOLUMNS", help="Of latents, each 32 pixels wide and high; 2x2 at least."
        ),
    ] = "22x40",
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    decoder: Annotated[
        str, typer.Option(metavar="KIND", help="causal, or windowed: the one with look-ahead.")
    ] = "causal",
    frame_rate: FrameRate = 24.0,
    force: Force = False,
) -> None:
    """Make a tiny bundle of random weights: it edits nothing sensibly, but everything runs."""
    _need_extra()
    rows, columns = _size(grid, 1, "--grid is ROWSxCOLUMNS, such as 22x40")
    if decoder not in {"causal", "windowed"}:
        raise ConfigurationError("--decoder is causal or windowed")
    if min(rows, columns) < 2:
        raise ConfigurationError("--grid is 2x2 at least")
    from model_actor.models.sana_streaming import tiny as making

    console = Console(stderr=True)
    with bundle_files.making(out, force=force) as fresh:
        making.make(
            fresh,
            grid=(rows, columns),
            seed=seed,
            decoder="causal" if decoder == "causal" else "windowed",
            frame_rate=frame_rate,
        )
        bundle_files.seal(fresh)
    _tell(console, out)


def _need_extra() -> None:
    """Checks that the extra is installed.

    Raises:
        ConfigurationError: It is not.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"`weights` needs {', '.join(missing)}: pip install 'sana-gateway[sana]'"
        )


def _size(text: str, unit: int, fault: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    if not (first.isdecimal() and second.isdecimal()):
        raise ConfigurationError(fault)
    if any(int(side) % unit or not int(side) for side in (first, second)):
        raise ConfigurationError(fault)
    return int(first), int(second)


def _show_licences(console: Console) -> None:
    table = Table("what", "licence", title="licences", show_lines=True)
    for name, text in LICENCES.items():
        table.add_row(name, text)
    console.print(table)


@contextmanager
def _steps(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows what is done, step by step."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("beginning", total=None)

        def step(text: str) -> None:
            progress.update(task, description=text)
            progress.console.print(text)

        yield step


@contextmanager
def _checksums(console: Console, folder: Path) -> Iterator[Callable[[int], None]]:
    """Shows how much of a bundle has been read."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        total = bundle_files.size_of(folder) if (folder / bundle_files.CONFIG).is_file() else None
        task = progress.add_task("checksums", total=total)
        yield lambda count: progress.advance(task, count)


def _tell(console: Console, folder: Path) -> None:
    """Checks the tensors of a bundle, and says what it holds."""
    from model_actor.models.sana_streaming import bundle

    description = bundle_files.describe(folder)
    table = Table("part", "tensors", "parameters", "types", title=str(folder))
    for name, found in bundle.check(folder).items():
        table.add_row(name, str(found.tensors), f"{found.parameters:,}", ", ".join(found.dtypes))
    console.print(table)
    rows, columns = description.grid
    console.print(
        f"{description.width}x{description.height} pixels ({rows}x{columns} latents) at "
        f"{description.frame_rate:g} frames a second, decoder {description.decoder}, "
        f"{bundle_files.size_of(folder):,} bytes"
    )
