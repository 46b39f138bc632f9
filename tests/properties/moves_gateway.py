"""What the machine of moves knows beside the session: a gateway, and looks at snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.core.effects import Asker
from scheduler.core.session import Session
from scheduler.core.snapshot import SessionSnapshot
from scheduler.wire_snapshot import snapshot_in, snapshot_out


@dataclass
class Gateway:
    """What a gateway knows of a session, and its play-out clock."""

    run: int = 0
    next_frame: int = 0
    announced: list[tuple[int, int, int]] = field(default_factory=list)
    """(chunk, next frame, end) that wait to be shown."""
    end: int = 0
    """Index after the last frame announced."""
    commits: list[int] = field(default_factory=list)
    """Chunks that were shown to their end and of which the actor has not heard."""
    revision: int = 0
    told: int = 0
    """Chunks that clients were told to be complete."""
    told_frames: int = 0
    begins_at: int = 0
    """First frame of the run that was ever to be shown here."""
    started: bool = False
    over: bool = False

    def begin(self, run: int) -> None:
        self.run, self.next_frame, self.end, self.begins_at = run, 0, 0, 0
        self.told = self.told_frames = 0
        self.announced, self.commits = [], []
        self.started = self.over = False


def known_end(snapshot: SessionSnapshot) -> int:
    if snapshot.run is None or not snapshot.run.unshown:
        return 0
    last, _ = snapshot.run.unshown[-1]
    return last.first_frame + last.frames


def control(session: Session) -> SessionSnapshot:
    """Returns what a session is, but for what its gateway knows better."""
    snapshot = replace(session.snapshot(), revision=0)
    return (
        snapshot if snapshot.run is None else replace(snapshot, run=replace(snapshot.run, shown=0))
    )


def over_the_wire(snapshot: SessionSnapshot) -> SessionSnapshot:
    sent = snapshot_out(snapshot, session_id="s", epoch=1, host="h").SerializeToString()
    return snapshot_in(snapshot_pb2.ControlSnapshot.FromString(sent))


def del_due(due: dict[str, str], asker: Asker) -> None:
    due.pop(asker.command_id, None)
