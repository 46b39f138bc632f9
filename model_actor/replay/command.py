"""`sana-gateway replay`: make a session's video again from its journal, and compare it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer
from rich.console import Console

from model_actor.media.errors import ClipRefusedError
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Model
from model_actor.replay import exporting, records
from model_actor.replay.comparing import RunResult, compare
from model_actor.replay.environment import differences, environment
from model_actor.replay.reading import Journal, Run, load
from model_actor.replay.rendering import Rendering, ReplayError
from model_actor.replay.report import Report
from model_actor.settings import ActorSettings
from scheduler.core.errors import ConfigurationError
from scheduler.option_values import with_weights
from scheduler.options import pairs
from scheduler.process.logging import configure_logging

DIFFERS: Final = 1
"""Exit status when a frame differs, or nothing could be compared."""

_EXAMPLES: Final = """Examples:

\b
  sana-gateway replay --export SESSION bug.journal
      fetch the journal of a session, as one file for a bug report
  sana-gateway replay bug.journal --clip clip.mp4
      make it again here, with the model and the options that the journal names
  sana-gateway replay bug.journal --clip clip.mp4 --prompt "a winter night" --weights ./bundle
      the journal has hashes alone, and the weights lie elsewhere

Ends with 0 when all frames are the same (bit-equal, or at least 45 dB alike), 1 when some differ or
nothing could be compared, 2 when it could not be done.
"""

replay = typer.Typer(
    help="Make a session's video again from its journal, and compare it with what was shown.",
    invoke_without_command=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
    # There are no subcommands: what is named is a file.
    context_settings={"allow_interspersed_args": True},
    subcommand_metavar="",
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a replay is asked for."""

    clip: Path | None = None
    prompts: Sequence[str] = ()
    """Texts of prompts of which the journal has hashes."""
    runs: Sequence[int] = ()
    """Only these; none: all."""
    model: str = ""
    """Another plugin than the journal names."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the plugin, instead of what the journal says."""


@replay.callback()
def replay_file(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            dir_okay=False,
            help="The journal; with --export where to put it (default: SESSION.journal).",
        ),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The clip that was edited: journals name it only."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="A prompt that was used, where the journal has its hash alone; repeatable.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        list[int] | None,
        typer.Option(help="Only this run; repeatable. By default all.", show_default=False),
    ] = None,
    model: Annotated[str, typer.Option(help="Another model plugin than the journal names.")] = "",
    model_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Option of the model, instead of what the journal says; repeatable.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Short for --model-option weights=FOLDER.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    export: Annotated[
        str, typer.Option(metavar="SESSION", help="Fetch the journal of a session instead.")
    ] = "",
    address: Annotated[
        str, typer.Option(help="gRPC address of a gateway, for --export.", envvar="SANA_ADDRESS")
    ] = "127.0.0.1:50051",
    token: Annotated[
        str,
        typer.Option(
            help="API key or token, for --export; better given in the environment.",
            envvar="SANA_TOKEN",
            show_envvar=True,
        ),
    ] = "",
    tls: Annotated[bool, typer.Option("--tls", help="The gateway speaks TLS.")] = False,
    ca: Annotated[
        Path | None,
        typer.Option(help="Authority of the gateway's certificate, a PEM file.", dir_okay=False),
    ] = None,
) -> None:
    """Make a session's video again and compare it, frame by frame, with what was shown."""
    if export:
        target = file or Path(f"{export}.journal")
        size = exporting.export(export, target, address, token, tls=tls, ca=ca)
        typer.echo(f"{target}: {size} bytes")
        return
    if file is None:
        raise ConfigurationError("name the journal, or a session with --export")
    wishes = Wishes(
        clip=clip,
        prompts=prompt or (),
        runs=run or (),
        model=model,
        options=pairs(with_weights(model_option, weights), "--model-option"),
    )
    configure_logging("warning", service="replay")
    journal = load(file)
    console = Console(stderr=True)
    with console.status("loading the model") as status:

        def told(result: RunResult) -> None:
            status.update(f"run {result.number}: {result.equal} of {result.compared} frames equal")

        report = asyncio.run(replayed(journal, wishes, told))
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(0 if report.is_same else DIFFERS)


async def replayed(
    journal: Journal, wishes: Wishes, progress: Callable[[RunResult], None] = lambda _: None
) -> Report:
    """Makes a journal's runs again and compares them.

    Raises:
        ReplayError: Something is missing: the clip, a prompt, the run that was asked for.
        PluginError: The model is missing or broken, or refuses its options.
    """
    runs = _chosen(journal, wishes.runs)
    name = wishes.model or journal.actor.model
    prompts = journal.prompts
    for text in wishes.prompts:
        prompts[records.prompt_digest(journal.session, text)] = text
    model = _model(name, {**_own_options(journal, name), **wishes.options})
    _must_fit(journal, model)
    async with _rendering(journal, model, wishes.clip, runs, prompts) as rendering:
        results = [await compare(journal, run, rendering, progress) for run in runs]
    was = {**journal.actor.environment, "model": journal.actor.model}
    here = {**environment(name), "model": name}
    return Report(journal.session, name, results, differences(was, here))


def _chosen(journal: Journal, wanted: Sequence[int]) -> list[Run]:
    runs = [run for run in journal.runs if not wanted or run.number in wanted]
    if wanted and len(runs) < len(set(wanted)):
        there = ", ".join(str(run.number) for run in journal.runs)
        raise ReplayError(f"there is no such run; the journal has: {there or 'none'}")
    if not runs:
        raise ReplayError("the journal has no run of which a window was made")
    return runs


def _own_options(journal: Journal, name: str) -> dict[str, str]:
    return dict(journal.actor.options) if name == journal.actor.model else {}


def _model(name: str, options: dict[str, str]) -> Model:
    spec = {"model": name, "model_options": options}
    needed = {"actor_id": "replay", "placement_address": "", "lease_secret": "", "listen": ""}
    return ActorSettings.from_spec({**needed, **spec}).configured_model()


def _must_fit(journal: Journal, model: Model) -> None:
    actor, info = journal.actor, model.info
    wanted = (actor.width, actor.height)
    if wanted != (info.width, info.height):
        raise ReplayError(
            f"the journal has pictures of {wanted[0]}x{wanted[1]}, this model makes "
            f"{info.width}x{info.height}: set its size with --model-option"
        )


@asynccontextmanager
async def _rendering(
    journal: Journal, model: Model, clip: Path | None, runs: Sequence[Run], prompts: dict[str, str]
) -> AsyncIterator[Rendering | None]:
    """Opens the clip and loads the model; None where there is no clip, or no need of one."""
    if clip is None or all(run.live for run in runs):
        yield None
        return
    info = model.info
    workers = DecodeWorkers(spare=0)
    await workers.start()
    try:
        with _opened(clip) as spool:
            try:
                source = await workers.open_clip(
                    spool.fileno(),
                    width=info.width,
                    height=info.height,
                    minimum_frames=info.geometry.first_window,
                    window=info.geometry.window,
                )
            except ClipRefusedError as error:
                raise ReplayError(f"the clip cannot be used: {error}") from None
        rendering = Rendering(model, journal.session, source, prompts, records.digest_of_all)
        try:
            await rendering.load()
            yield rendering
        finally:
            await rendering.close()
            await source.close()
    finally:
        await workers.close()


def _opened(clip: Path) -> BinaryIO:
    try:
        return clip.open("rb")
    except OSError as error:
        raise ReplayError(f"the clip cannot be read: {error.strerror}") from None
