"""The kit for authors of model plugins: what every model must keep to, as checks to call."""

from model_actor.conformance.checks import (
    ALL_CHECKS,
    ConformanceError,
    check_all,
    check_batch_equals_alone,
    check_begins_anew,
    check_cost,
    check_determinism,
    check_failure_is_atomic,
    check_fewer_steps,
    check_foreign_snapshot,
    check_fork,
    check_geometry,
    check_results,
    check_sessions_are_independent,
    check_snapshot,
    check_transitions,
)

__all__ = [
    "ALL_CHECKS",
    "ConformanceError",
    "check_all",
    "check_batch_equals_alone",
    "check_begins_anew",
    "check_cost",
    "check_determinism",
    "check_failure_is_atomic",
    "check_fewer_steps",
    "check_foreign_snapshot",
    "check_fork",
    "check_geometry",
    "check_results",
    "check_sessions_are_independent",
    "check_snapshot",
    "check_transitions",
]
