"""Who gets through what: every client, in each of its modes, through every flow.

A test says `with record(client, mode, flow):` around what proves a cell; several may prove
parts of one. `python -m tests.e2e.reactor.matrix` prints the table and fails when a cell that
is due was proved by nobody. `make test` does so after all end-to-end tests; the table of a
part of them says nothing. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[3] / ".cache/tests/matrix"
"""One folder per cell, with one file per test that tried it: its outcome."""

CLOUD: Final = "cloud"
LOCAL: Final = "local"

MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "reactor-sdk 1.13.0": (CLOUD, LOCAL),
    "reactor-sdk 0.8.0": (CLOUD, LOCAL),
    "js-sdk 2.9.0": (CLOUD, LOCAL),
    "js-sdk 2.12 wire": (CLOUD, LOCAL),
    "sana-gateway-client gRPC": (CLOUD,),
    "sana-gateway-client WebRTC": (CLOUD,),
    "TypeScript SDK": (CLOUD,),
    "Node gRPC": (CLOUD,),
    "WHIP/WHEP": (CLOUD,),
}
"""The clients, and the modes they have: local mode is one of Reactor's SDKs alone."""

FLOWS: Final[Mapping[str, str]] = {
    "live": "camera, prompt, start; pictures, messages, a new prompt, pause, resume, reset",
    "file": "upload, start; pictures and messages to the end, and a replay",
    "uploads": "another clip in place of the first; what is no clip is refused, and it goes on",
    "reconnect": "the transport is lost, the session and its state are not",
    "join": "a second connection of the session sees, hears and controls it",
    "pause": "this connection's pictures stop, and come again",
    "pings": "idle for longer than the watchdog allows, it stays: it pings",
    "errors": "what is refused is told in the client's own words, and it goes on",
}
"""The flows, and what they go through."""

_ONE_PROGRAM: Final = "the program of the file example has no such part"
_MEDIA_ALONE: Final = "carries media alone; the commands take another door"
_CANNOT: Final[Mapping[tuple[str, str, str], str]] = {
    ("reactor-sdk 0.8.0", LOCAL, "join"): "connect() refuses a session id in local mode",
    ("js-sdk 2.9.0", CLOUD, "join"): "connect() takes no session id",
    ("js-sdk 2.9.0", LOCAL, "join"): "connect() takes no session id",
    ("js-sdk 2.9.0", CLOUD, "pause"): "has no pause of a track",
    ("js-sdk 2.9.0", LOCAL, "pause"): "has no pause of a track",
    ("sana-gateway-client gRPC", CLOUD, "pause"): "pictures stop when their call is closed",
    ("sana-gateway-client gRPC", CLOUD, "pings"): "HTTP/2 has pings of its own",
    ("sana-gateway-client WebRTC", CLOUD, "pause"): "pictures stop when the peer is closed",
    ("sana-gateway-client WebRTC", CLOUD, "pings"): "the commands go over gRPC",
    ("Node gRPC", CLOUD, "live"): _ONE_PROGRAM,
    ("Node gRPC", CLOUD, "uploads"): _ONE_PROGRAM,
    ("Node gRPC", CLOUD, "reconnect"): _ONE_PROGRAM,
    ("Node gRPC", CLOUD, "join"): _ONE_PROGRAM,
    ("Node gRPC", CLOUD, "pause"): _ONE_PROGRAM,
    ("Node gRPC", CLOUD, "pings"): "HTTP/2 has pings of its own",
    ("WHIP/WHEP", CLOUD, "file"): _MEDIA_ALONE,
    ("WHIP/WHEP", CLOUD, "uploads"): _MEDIA_ALONE,
    ("WHIP/WHEP", CLOUD, "pause"): "the player closes its connection",
    ("WHIP/WHEP", CLOUD, "pings"): "ICE consent tells that it is there",
}
"""What a client cannot do, and why. All other cells are due."""

_OK: Final = "ok"
_FAILED: Final = "FAILED"
_MISSING: Final = "missing"
_NONE: Final = "-"
_COLOURS: Final = {_OK: "32", _FAILED: "31", _MISSING: "31", _NONE: "2"}


@contextmanager
def record(client: str, mode: str, flow: str) -> Iterator[None]:
    """Notes that a client got through a flow, or that it did not.

    Args:
        client: One of `MODES`.
        mode: One of the client's.
        flow: One of `FLOWS`.

    Raises:
        KeyError: The table has no such cell, or says that the client cannot do it.
    """
    if mode not in MODES[client] or flow not in FLOWS or (client, mode, flow) in _CANNOT:
        raise KeyError(f"no such cell: {client}, {mode}, {flow}")
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    cell = FOLDER / _folder(client, mode, flow)
    cell.mkdir(parents=True, exist_ok=True)
    # Per test: one that failed beside others is run again, and may pass then.
    outcome = cell / hashlib.sha256(test.encode()).hexdigest()[:16]
    outcome.write_text(_FAILED)
    yield
    outcome.write_text(_OK)


def cells() -> dict[tuple[str, str, str], str]:
    """Returns every cell of the table with its outcome so far."""
    return {
        (client, mode, flow): _outcome(client, mode, flow)
        for client, modes in MODES.items()
        for mode in modes
        for flow in FLOWS
    }


def _outcome(client: str, mode: str, flow: str) -> str:
    if (client, mode, flow) in _CANNOT:
        return _NONE
    tried = {each.read_text() for each in (FOLDER / _folder(client, mode, flow)).glob("*")}
    if not tried:
        return _MISSING
    return _OK if tried == {_OK} else _FAILED


def _folder(client: str, mode: str, flow: str) -> str:
    return "-".join((client, mode, flow)).replace("/", "-").replace(" ", "-")


def table(outcomes: Mapping[tuple[str, str, str], str], *, colours: bool) -> str:
    """Draws the table: a row per client and mode, a column per flow; then why a cell is empty."""
    width = max(len(client) for client, _, _ in outcomes)
    lines = [f"{'client':<{width}}  mode   " + " ".join(f"{flow:>9}" for flow in FLOWS)]
    for client, modes in MODES.items():
        for mode in modes:
            row = []
            for flow in FLOWS:
                shown = f"{(outcome := outcomes[client, mode, flow]):>9}"
                row.append(f"\x1b[{_COLOURS[outcome]}m{shown}\x1b[0m" if colours else shown)
            lines.append(f"{client:<{width}}  {mode:<5}  " + " ".join(row))
    lines += ["", *(f"{flow:<9}  {what}" for flow, what in FLOWS.items()), ""]
    reasons: dict[tuple[str, str], list[str]] = {}
    for (client, _, flow), reason in _CANNOT.items():
        flows = reasons.setdefault((client, reason), [])
        if flow not in flows:
            flows.append(flow)
    lines += [
        f"-  {client}, {' and '.join(flows)}: {reason}"
        for (client, reason), flows in reasons.items()
    ]
    return "\n".join(lines)


def main() -> int:
    """Prints the table; returns how many cells are not as they should be, as an exit status."""
    outcomes = cells()
    print(table(outcomes, colours=sys.stdout.isatty()))
    counts = {kind: list(outcomes.values()).count(kind) for kind in (_OK, _FAILED, _MISSING)}
    print("\n" + ", ".join(f"{number} {kind}" for kind, number in counts.items()), flush=True)
    return min(counts[_FAILED] + counts[_MISSING], 100)


if __name__ == "__main__":
    sys.exit(main())
