"""Draws the rules of the editing session, so that a document shows what the code does.

python -m scheduler.core.diagram                          prints the drawing
python -m scheduler.core.diagram --write ARCHITECTURE.md  puts it into a document
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scheduler.core.commands import NAMES, Reset
from scheduler.core.errors import ConfigurationError
from scheduler.core.messages import Phase
from scheduler.core.session_table import TABLE, SwitchMode, Trigger, World, allowed_phases

BEGIN = "<!-- session-diagram:begin -->"
END = "<!-- session-diagram:end -->"

_COMMANDS = {**NAMES, SwitchMode: "set_mode (the other)"}


def render() -> str:
    """Returns the drawing: a Mermaid state diagram of the changes of phase, and a table
    of the commands that each phase accepts. The same table gives the same text.
    """
    return f"```mermaid\n{_diagram()}\n```\n\n{_accepted()}"


def replace_block(document: str) -> str:
    """Returns a document with the drawing between its two markers.

    Raises:
        ConfigurationError: The document does not have both markers, in order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"the document lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}"


def _diagram() -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.IDLE.value}"]
    for phase in Phase:
        for trigger in (*NAMES, SwitchMode, *World):
            if trigger is not Reset:
                lines += _arrows(phase, trigger)
    lines += [
        f"    note right of {Phase.IDLE.value}",
        "        reset leads here from every phase",
        "    end note",
    ]
    return "\n".join(lines)


def _arrows(phase: Phase, trigger: Trigger) -> list[str]:
    return [
        f"    {phase.value} --> {edge.to.value}: {_label(trigger, edge.when)}"
        for edge in TABLE.get((phase, trigger), ())
        if edge.to is not phase
    ]


def _label(trigger: Trigger, when: str) -> str:
    name = trigger.value if isinstance(trigger, World) else _COMMANDS[trigger]
    return f"{name} ({when})" if when else name


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
        print(render())
    else:
        text = replace_block(document.read_text(encoding="utf-8"))
        document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
