"""The kit for authors of model plugins: what every model must keep to, as checks to call.

    model = MyModel()
    model.configure({})
    model.load()
    check_all(model)

`sana-gateway plugin check NAME` does the same for an installed plugin, measures memory and time
beside it, and goes on after what fails.
"""

from model_actor.conformance.checks import (
    ConformanceError,
    check_batch_equals_alone,
    check_begins_anew,
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
from model_actor.conformance.measuring import UnmeasurableError, check_memory, check_time
from model_actor.conformance.rules import (
    ALL_CHECKS,
    RULES,
    Outcome,
    Rule,
    Subject,
    Verdict,
    check_all,
    chosen,
    examine,
)

__all__ = [
    "ALL_CHECKS",
    "RULES",
    "ConformanceError",
    "Outcome",
    "Rule",
    "Subject",
    "UnmeasurableError",
    "Verdict",
    "check_all",
    "check_batch_equals_alone",
    "check_begins_anew",
    "check_determinism",
    "check_failure_is_atomic",
    "check_fewer_steps",
    "check_foreign_snapshot",
    "check_fork",
    "check_geometry",
    "check_memory",
    "check_results",
    "check_sessions_are_independent",
    "check_snapshot",
    "check_time",
    "check_transitions",
    "chosen",
    "examine",
]
