"""Every metric has a test that proves it right against times and faults that were put in."""

from __future__ import annotations

import ast

import pytest

from sdk_adapters.harness.metrics import METRICS
from tests.required import ROOT

pytestmark = pytest.mark.contract

_TIMING = "unit/sdk_adapters/test_load_timing.py"
_SPLIT = (_TIMING, "test_every_part_of_a_join_is_what_it_took_and_in_no_other")
_CLOCKS = (
    _TIMING,
    "test_first_frames_and_edited_pictures_know_nothing_of_the_distance_of_two_clocks",
)
_RIGHT = "unit/sdk_adapters/test_load_validation.py"
_CHUNKS = (_RIGHT, "test_chunks_that_take_200_ms_longer_are_200_ms_further_apart")
_LATE = (_RIGHT, "test_one_chunk_that_is_200_ms_late_is_so_once")
_DROPPED = (_RIGHT, "test_a_dropped_frame_is_lost_once_and_no_freeze")
_REPEATED = (_RIGHT, "test_a_repeated_frame_is_repeated_once_and_not_lost")
_SEEN = "unit/sdk_adapters/test_generator_watching.py"
_SMOOTH = (_SEEN, "test_a_smooth_run_is_clean")
_VISITS = "unit/sdk_adapters/test_generator_visits.py"
_BUILT = "unit/sdk_adapters/test_load_build.py"
_ENDS = (_BUILT, "test_sessions_are_counted_by_their_end")
_GROWTH = (_BUILT, "test_growth_is_of_each_process_by_itself_and_added")
_CPU = (_BUILT, "test_the_cpu_of_the_generator_is_that_of_its_busiest_process")
_EXPOSED = "unit/sdk_adapters/test_load_exposed.py"
_POOL = (_EXPOSED, "test_the_metrics_of_a_gateway_tell_of_the_pool_and_its_processes")
_MEANWHILE = (_EXPOSED, "test_shares_are_of_what_was_done_meanwhile")

PROOFS = {
    "admission_wait": _SPLIT,
    "join": _SPLIT,
    "join_request": _SPLIT,
    "join_ice": _SPLIT,
    "join_dtls": _SPLIT,
    "join_gpu_wait": _SPLIT,
    "start_to_first_frame": _CLOCKS,
    "command_ack": _SPLIT,
    "prompt_to_pixels": _CHUNKS,
    "glass_to_glass": _CLOCKS,
    "chunk_interval": _CHUNKS,
    "chunk_jitter": _CHUNKS,
    "frame_lateness": _LATE,
    "freezes": _CHUNKS,
    "frozen": _CHUNKS,
    "underruns": (_SEEN, "test_chunks_have_intervals_and_the_jitter_of_them"),
    "frames_shown": _DROPPED,
    "frames_lost": _DROPPED,
    "frames_repeated": _REPEATED,
    "pictures_wrong": (
        "unit/sdk_adapters/test_viewer.py",
        "test_pictures_of_another_session_or_run_are_wrong",
    ),
    "frame_rate": _SMOOTH,
    "bitrate": _SMOOTH,
    "reconnect": (_SEEN, "test_coming_back_is_measured_to_the_next_new_frame"),
    "pause_to_resume": (_SEEN, "test_neither_a_pause_nor_the_end_of_a_clip_is_a_freeze"),
    "migration_gap": (_SEEN, "test_the_longest_gap_around_a_move_is_its_gap"),
    "moves": (_SEEN, "test_the_longest_gap_around_a_move_is_its_gap"),
    "sessions_begun": _ENDS,
    "sessions_lost": _ENDS,
    "sessions_failed": _ENDS,
    "turned_away": _ENDS,
    "commands_refused": (_VISITS, "test_a_refused_command_counts_and_is_tried_again"),
    "clean_sessions": (_BUILT, "test_a_session_is_clean_with_every_frame_once_and_no_freeze"),
    "sessions_active": _POOL,
    "sessions_resident": _POOL,
    "sessions_parked": _POOL,
    "sessions_queued": _POOL,
    "queue_age": _POOL,
    "batch_fill": _MEANWHILE,
    "deadline_misses": _MEANWHILE,
    "gateway_cpu_per_session": _MEANWHILE,
    "loop_lag": (_EXPOSED, "test_lag_is_of_what_was_seen_meanwhile"),
    "server_rss_slope": _GROWTH,
    "server_fd_slope": _GROWTH,
    "generator_cpu": _CPU,
    "generator_lag": (
        "unit/sdk_adapters/test_generator_honesty.py",
        "test_a_loop_that_is_blocked_is_seen_and_makes_the_run_invalid",
    ),
    "measuring_cpu": _CPU,
}
"""File below tests/ and test, by metric: break the metric, and that test fails."""


def test_every_metric_has_a_proof() -> None:
    assert PROOFS.keys() == METRICS.keys()


@pytest.mark.parametrize("path", sorted({path for path, _ in PROOFS.values()}))
def test_the_proofs_exist(path: str) -> None:
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    there = {each.name for each in tree.body if isinstance(each, kinds)}
    assert {test for at, test in PROOFS.values() if at == path} <= there
