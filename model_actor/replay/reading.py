"""A journal as what is to be made again: runs, and windows in their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from model_actor.replay.records import (
    Actor,
    Command,
    JournalError,
    Over,
    Piece,
    Record,
    Reference,
    Restored,
    Window,
    read,
)

MOST_FILE_BYTES = 1024 * 1024 * 1024


@dataclass(slots=True)
class Run:
    """What was made of one run."""

    number: int
    windows: list[Window] = field(default_factory=list)
    """In the order in which they were made; one that was made again stands there again."""
    references: dict[int, Reference] = field(default_factory=dict)
    """By frame."""
    why: str = ""
    """Why the journal has no more of it, where it says so."""
    restored: int = 0
    """Times that it went on at another actor."""

    @property
    def live(self) -> bool:
        """Whether its source was a camera."""
        return any(each.live for each in self.windows)


@dataclass(slots=True)
class Journal:
    """A whole journal."""

    session: str
    actor: Actor
    """Where the first window was made; those after it may have been made elsewhere."""
    actors: list[Actor]
    """All of these, each once."""
    runs: list[Run]
    """Those of which a window was made."""
    commands: list[Command]
    """What clients asked for, in order."""
    content: bool
    """Whether any of it has content."""

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts that it has, by their digests."""
        known: dict[str, str] = {}
        for run in self.runs:
            for window in run.windows:
                for each in (window.prompt, *window.earlier):
                    if "text" in each:
                        known[each["digest"]] = each["text"]
        return known


def load(path: Path) -> Journal:
    """Reads a file.

    Raises:
        JournalError: It is no journal, or one of which nothing can be made again.
    """
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise JournalError("not a journal: the file is too large")
        with path.open("rb") as file:
            return gather(read(iter(lambda: file.readline(MOST_FILE_BYTES), b"")))
    except OSError as error:
        raise JournalError(f"the journal cannot be read: {error.strerror}") from None


def gather(records: Iterable[Record]) -> Journal:
    """Puts the lines of a journal in order.

    Raises:
        JournalError: They are those of several sessions, or tell of no actor.
    """
    gathering = _Gathering()
    for record in records:
        gathering.add(record)
    if not gathering.actors:
        raise JournalError("not a journal: it tells of no actor")
    return Journal(
        session=gathering.session,
        actor=gathering.actors[0],
        actors=gathering.actors,
        runs=[run for run in gathering.runs.values() if run.windows],
        commands=gathering.commands,
        content=gathering.content,
    )


class _Gathering:
    def __init__(self) -> None:
        self.session = ""
        self.actors: list[Actor] = []
        self.runs: dict[int, Run] = {}
        self.commands: list[Command] = []
        self.content = False

    def add(self, record: Record) -> None:
        match record:
            case Piece(session=session, content=content):
                if self.session and session != self.session:
                    raise JournalError("not a journal: it is of several sessions")
                self.session, self.content = session, self.content or content
            case Actor():
                self._must_fit(record)
                if record not in self.actors:
                    self.actors.append(record)
            case Window(run=run):
                self._run(run).windows.append(record)
            case Reference(run=run, frame=frame):
                self._run(run).references[frame] = record
            case Command():
                self.commands.append(record)
            case Restored(run=run):
                self._run(run).restored += 1
            case Over(run=run, why=why):
                self._run(run).why = why

    def _must_fit(self, actor: Actor) -> None:
        """Refuses a journal whose actors made other pictures: it would be no session of ours."""
        for known in self.actors[:1]:
            if (known.model, known.width, known.height) != (actor.model, actor.width, actor.height):
                raise JournalError("not a journal: its actors made different pictures")

    def _run(self, number: int) -> Run:
        return self.runs.setdefault(number, Run(number))
