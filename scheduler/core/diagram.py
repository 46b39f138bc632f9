"""Draws the rules of the editing session and of the lease: documents show what the code does.

python -m scheduler.core.diagram                          prints the drawings
python -m scheduler.core.diagram --write ARCHITECTURE.md  puts them into a document

A document says which drawings it wants, and where, by a pair of markers for each (`markers`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from scheduler.core.commands import NAMES, Reset
from scheduler.core.errors import ConfigurationError
from scheduler.core.lease import TRANSITIONS, LeaseState, Step
from scheduler.core.messages import Phase
from scheduler.core.session_table import (
    TABLE,
    SwitchMode,
    Trigger,
    World,
    allowed_phases,
)

Drawings = Mapping[str, Callable[[], str]]
"""What draws each drawing, by its name."""
_COMMANDS = {**NAMES, SwitchMode: "set_mode (the other)"}
_APART: Final = {World.MODEL_FAILED, World.MOVED}
"""What may happen in most phases: the table has it, and the drawing stays one that can be read."""


def render() -> str:
    """Returns the editing session: a Mermaid state diagram of the usual changes of phase, a table
    of what the world may bring, and one of the commands that each phase accepts.
    The same table gives the same text.
    """
    return f"{_session()}\n\n{_world()}\n\n{_accepted()}"


def render_lease() -> str:
    """Returns the lease as a Mermaid state diagram of all its steps."""
    (end,) = (state for state, steps in TRANSITIONS.items() if not steps)
    # Where every other state knows the last step, one arrow and a note stand for all of them.
    everywhere = all(
        steps.get(Step.RELEASE) is end for state, steps in TRANSITIONS.items() if state is not end
    )
    arrows = [
        (state.value, to.value, step.value)
        for state, steps in TRANSITIONS.items()
        for step, to in steps.items()
        if not (everywhere and step is Step.RELEASE and state is not LeaseState.ACTIVE)
    ]
    note = (end.value, f"{Step.RELEASE.value} leads here from every state") if everywhere else None
    return state_diagram(LeaseState.QUEUED.value, arrows, note)


def state_diagram(
    initial: str, arrows: Iterable[tuple[str, str, str]], note: tuple[str, str] | None = None
) -> str:
    """Returns a Mermaid state diagram as a block of Markdown.

    Args:
        initial: The state that a machine begins in.
        arrows: From which state, to which, and why. Those between the same two are drawn as one.
        note: A state, and what stands beside it.
    """
    reasons: dict[tuple[str, str], list[str]] = {}
    for before, after, why in arrows:
        reasons.setdefault((before, after), []).append(why)
    lines = ["stateDiagram-v2", f"    [*] --> {initial}"]
    lines += [
        f"    {before} --> {after}: {'<br/>'.join(why)}" for (before, after), why in reasons.items()
    ]
    if note is not None:
        lines += [f"    note right of {note[0]}", f"        {note[1]}", "    end note"]
    return "\n".join(("```mermaid", *lines, "```"))


DRAWINGS: Final[Drawings] = {"session-diagram": render, "lease-diagram": render_lease}


def markers(name: str) -> tuple[str, str]:
    """Returns the lines between which a drawing stands in a document."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def redrawn(document: str, drawings: Drawings = DRAWINGS) -> str:
    """Returns a document with each drawing that it asks for between its two markers.

    Raises:
        ConfigurationError: The document asks for none, or a marker lacks the other.
    """
    found = False
    for name, draw in drawings.items():
        begin, end = markers(name)
        before, opened, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if bool(opened) != bool(closed) or (not opened and end in document):
            raise ConfigurationError(f"the document lacks {end if opened else begin}")
        if opened:
            document = f"{before}{begin}\n\n{draw()}\n\n{end}{after}"
            found = True
    if not found:
        raise ConfigurationError(f"the document has no place for {' or '.join(drawings)}")
    return document


def _session() -> str:
    arrows = (
        (phase.value, edge.to.value, _label(trigger, edge.when))
        for phase in Phase
        for trigger in (*NAMES, SwitchMode, *World)
        if trigger is not Reset and trigger not in _APART
        for edge in TABLE.get((phase, trigger), ())
        if edge.to is not phase
    )
    idle = Phase.IDLE.value
    return state_diagram(idle, arrows, (idle, "reset leads here from every phase"))


def _label(trigger: Trigger, when: str) -> str:
    name = trigger.value if isinstance(trigger, World) else _COMMANDS[trigger]
    return f"{name} ({when})" if when else name


def _world() -> str:
    lines = ["| What happens | In | Leads to |", "|---|---|---|"]
    for event in World:
        led: dict[str, list[str]] = {}
        for phase in Phase:
            for edge in TABLE.get((phase, event), ()):
                if edge.to is not phase:
                    when = f" ({edge.when})" if edge.when else ""
                    led.setdefault(f"{edge.to.value}{when}", []).append(phase.value)
        lines += [f"| {event.value} | {', '.join(phases)} | {to} |" for to, phases in led.items()]
    return "\n".join(lines)


def _accepted() -> str:
    lines = [
        f"| Command | {' | '.join(phase.value for phase in Phase)} |",
        f"|---|{'---|' * len(Phase)}",
    ]
    for command, name in sorted(_COMMANDS.items(), key=lambda item: item[1]):
        allowed = allowed_phases(command)
        marks = " | ".join("yes" if phase in allowed else "-" for phase in Phase)
        lines.append(f"| `{name}` | {marks} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m scheduler.core.diagram", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    document: Path | None = parser.parse_args(arguments).write
    if document is None:
        print("\n\n".join(draw() for draw in DRAWINGS.values()))
    else:
        text = redrawn(document.read_text(encoding="utf-8"))
        document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
