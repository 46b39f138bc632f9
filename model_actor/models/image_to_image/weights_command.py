"""`sana-gateway weights image-to-image`: make a tiny folder of weights, check any.

Nothing is imported at the top that the extra `sana` brings.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from model_actor.models.image_to_image import folder
from scheduler.core.errors import ConfigurationError

AUTOENCODERS: Final = ("tiny", "kl")
SCHEDULERS: Final = ("euler", "lcm")
_EXAMPLES: Final = """Examples:

\b
  sana-gateway weights image-to-image tiny ./tiny
  sana-gateway weights image-to-image verify ./sd-turbo
  sana-gateway serve --model image-to-image --weights ./sd-turbo

Nothing is downloaded: fetch weights with the tools of their hosts first.
"""

weights = typer.Typer(
    help="Make and check weights of the model image-to-image.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)
Vae = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Another autoencoder than its own.")
]


@weights.command(epilog=_EXAMPLES)
def tiny(
    out: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder to make.", file_okay=False)
    ],
    autoencoder: Annotated[
        str, typer.Option(metavar="KIND", help=f"{' or '.join(AUTOENCODERS)}.")
    ] = AUTOENCODERS[0],
    scheduler: Annotated[
        str, typer.Option(metavar="KIND", help=f"{' or '.join(SCHEDULERS)}.")
    ] = SCHEDULERS[0],
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
) -> None:
    """Make tiny random weights: they edit nothing sensibly, but everything runs."""
    _need_extra()
    for given, known in ((autoencoder, AUTOENCODERS), (scheduler, SCHEDULERS)):
        if given not in known:
            raise ConfigurationError(f"{given!r} is not one of {', '.join(known)}")
    if out.exists():
        raise ConfigurationError(f"{out} is there already")
    from model_actor.models.image_to_image import tiny as making

    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".weights-") as work:
            fresh = Path(work) / "new"
            fresh.mkdir()
            making.make(fresh, autoencoder=autoencoder, scheduler=scheduler, seed=seed)
            fresh.rename(out)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}") from None
    _tell(out, None)


@weights.command(epilog=_EXAMPLES)
def verify(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="As diffusers writes it.")],
    vae: Vae = None,
) -> None:
    """Load weights on the CPU: every part there, whole, and fitting the others."""
    _need_extra()
    described = folder.describe(path, vae)
    import torch

    from model_actor.models.image_to_image import loading

    loading.load(described, torch.device("cpu"), torch.float16)
    _tell(path, vae)


def _need_extra() -> None:
    if any(importlib.util.find_spec(name) is None for name in folder.NEEDED):
        raise ConfigurationError(folder.NO_TORCH)


def _tell(path: Path, vae: Path | None) -> None:
    """Says what a folder holds."""
    described = folder.describe(path, vae)
    console = Console(stderr=True)
    table = Table("part", "parameters", "files", title=str(path))
    parts = {
        folder.UNET: described.unet,
        f"{folder.VAE} ({described.vae_kind})": described.autoencoder,
        folder.TEXT_ENCODER: described.text_encoder,
    }
    for name, part in parts.items():
        files = f"{len(part.files)}, {part.variant}" if part.variant else str(len(part.files))
        table.add_row(name, f"{part.numbers:,}", files)
    console.print(table)
    console.print(
        f"{described.scheduler_kind}; width and height of pictures: multiples of {described.unit}"
    )
