"""What a load test measures: every metric, what it means, and which way is better.

The table is the contract: whoever measures looks up the name here, reports and documents
are made from it, and thresholds are refused for names that do not stand in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """How values of a metric are put together."""

    DISTRIBUTION = "distribution"
    """Many values a session; reported by percentiles over all sessions, and each by itself."""
    COUNT = "count"
    """Something that happened; sessions are added up."""
    SHARE = "share"
    """A part of a whole, 0 to 1; computed from counts of all sessions."""
    LEVEL = "level"
    """A state over time; reported by mean and extremes over the measured time."""


class Side(Enum):
    """Who measured."""

    CLIENT = "client"
    SERVER = "server"
    GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table."""

    name: str
    unit: str
    kind: Kind
    side: Side
    meaning: str
    """One line for people."""
    more_is_better: bool = False


def _client(name: str, unit: str, kind: Kind, meaning: str, *, more: bool = False) -> Metric:
    return Metric(name, unit, kind, Side.CLIENT, meaning, more)


def _server(name: str, unit: str, meaning: str, *, kind: Kind = Kind.LEVEL) -> Metric:
    return Metric(name, unit, kind, Side.SERVER, meaning)


def _generator(name: str, unit: str, meaning: str) -> Metric:
    return Metric(name, unit, Kind.LEVEL, Side.GENERATOR, meaning)


_D, _C, _S = Kind.DISTRIBUTION, Kind.COUNT, Kind.SHARE

_TABLE: Final = (
    _client("admission_wait", "ms", _D, "from asking for a session to its place in the pool"),
    _client("join", "ms", _D, "from the planned arrival to a session that answers commands"),
    _client("join_request", "ms", _D, "the part of a join that is requests to the gateway"),
    _client("join_ice", "ms", _D, "the part of a join in which WebRTC looks for a path"),
    _client("join_dtls", "ms", _D, "the part of a join in which WebRTC agrees on keys"),
    _client("join_gpu_wait", "ms", _D, "the part of a join that waits for a GPU"),
    _client("start_to_first_frame", "ms", _D, "from sending `start` to its first frame"),
    _client("command_ack", "ms", _D, "from the planned time of a command to its acknowledgement"),
    _client("prompt_to_pixels", "ms", _D, "from sending a prompt to the first frame made with it"),
    _client("glass_to_glass", "ms", _D, "from the capture of a camera frame to its edited picture"),
    _client("chunk_interval", "ms", _D, "between the first frames of neighbouring chunks"),
    _client("chunk_jitter", "ms", _D, "how far a chunk interval is from its play-out time"),
    _client("frame_lateness", "ms", _D, "how late a frame came, by the stream's own clock"),
    _client("freezes", "freezes", _C, "times without a new frame for more than 150 ms"),
    _client("frozen", "share", _S, "share of the playing time that was frozen"),
    _client("underruns", "underruns", _C, "times the play-out clock had to wait for a chunk"),
    _client("frames_shown", "frames", _C, "frames that came", more=True),
    _client("frames_lost", "frames", _C, "frames that never came, among those that were due"),
    _client("frames_repeated", "frames", _C, "frames that came more than once"),
    _client("pictures_wrong", "pictures", _C,
            "decoded pictures of another session, or of another frame than came with them"),
    _client("frame_rate", "frames/s", _D, "frames per second of playing, per session", more=True),
    _client("bitrate", "kbit/s", _D, "video received while playing, per session", more=True),
    _client("reconnect", "ms", _D, "from a lost connection to the next new frame"),
    _client("pause_to_resume", "ms", _D, "from sending `resume` to its first frame"),
    _client("migration_gap", "ms", _D, "the longest time without a frame around a move"),
    _client("moves", "moves", _C, "times a session went on at another actor"),
    _client("sessions_begun", "sessions", _C, "sessions that were asked for", more=True),
    _client("sessions_lost", "sessions", _C, "sessions that ended against the user's will"),
    _client("sessions_failed", "sessions", _C, "sessions that never worked, for other reasons"),
    _client("turned_away", "share", _S, "share of the sessions asked for that the pool refused"),
    _client("commands_refused", "commands", _C, "commands answered by an error"),
    _client("clean_sessions", "share", _S, "share of sessions with every frame once and no freeze",
            more=True),
    _server("sessions_active", "sessions", "sessions that compute"),
    _server("sessions_resident", "sessions", "sessions with a place on a GPU"),
    _server("sessions_parked", "sessions", "sessions that are kept without a place"),
    _server("sessions_queued", "sessions", "sessions that wait for a place"),
    _server("queue_age", "s", "how long the first in the queue has waited"),
    _server("batch_fill", "sessions", "sessions computed in one forward"),
    _server("deadline_misses", "share", "share of chunks that were finished too late"),
    _server("gateway_cpu_per_session", "cores", "CPU of the gateway's processes, by sessions"),
    _server("loop_lag", "ms", "how late the gateway's event loops ran, 99 of 100"),
    _server("server_rss_slope", "MB/min", "growth of the service's memory"),
    _server("server_fd_slope", "1/min", "growth of the service's open descriptors"),
    _generator("generator_cpu", "share", "busiest process of the generator, of one core"),
    _generator("generator_lag", "ms", "how late the generator's event loops ran, 99 of 100"),
    _generator("measuring_cpu", "share", "CPU spent on measuring, of the generator's"),
)  # fmt: skip

METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _TABLE}
"""All metrics by name, in the order of the report."""
