"""The searching process: libFuzzer through atheris, led by the branches of our code.

python -m tests.fuzz.search TARGET [options and folders of libFuzzer]
"""

from __future__ import annotations

import logging
import resource
import sys

import atheris  # type: ignore[import-not-found,unused-ignore]
import structlog

from tests.fuzz.targets import INSTRUMENTED, TARGETS, load, within


def main() -> None:
    """Searches until libFuzzer ends the process."""
    name, options = sys.argv[1], sys.argv[2:]
    target = TARGETS[name]
    # What is refused by the thousand is logged by the thousand.
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        fuzz_one, _ = load(name)

    if target.address_space_mb:
        most = target.address_space_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def test_one(data: bytes) -> None:
        with within(target.cpu_s):
            fuzz_one(data)

    atheris.Setup([sys.argv[0], *options], test_one)
    atheris.Fuzz()


main()
