"""The filter of system calls, interpreted instruction by instruction, for each processor."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

import pytest

from model_actor.media.sandbox import (
    ALLOWED,
    ARCHITECTURES,
    Architecture,
    SandboxStatus,
    filter_program,
)

pytestmark = pytest.mark.unit

ALLOW = 0x7FFF0000
KILL = 0x80000000
MOST_NUMBER = 600


def refused(number: int) -> int:
    return 0x00050000 | number


def verdict(program: bytes, audit: int, call: int, arguments: Sequence[int] = ()) -> int:
    """Runs the program on one call, as the kernel would."""
    data = struct.pack("=IIQ6Q", call, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, value = instructions[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += jump_true if accumulator == value else jump_false
            case 0x45:
                at += jump_true if accumulator & value else jump_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


def test_what_is_allowed_without_condition_passes_and_nothing_else(
    architecture: Architecture,
) -> None:
    program = filter_program(architecture)
    free = {number for name, number in architecture.calls.items() if ALLOWED.get(name, 0) is None}
    known = set(architecture.calls.values())
    for number in range(MOST_NUMBER):
        told = verdict(program, architecture.audit, number)
        if number in free:
            assert told == ALLOW
        elif number == architecture.calls["clone3"]:
            assert told == refused(errno.ENOSYS)
        elif number not in known:
            assert told == refused(errno.EPERM)


@pytest.mark.parametrize(
    ("name", "arguments", "passes"),
    [
        ("mmap", (0, 4096, 3), True),
        ("mmap", (0, 4096, 5), False),
        ("mmap", (0, 4096, 4), False),
        ("mprotect", (0, 4096, 1), True),
        ("mprotect", (0, 4096, 7), False),
        # As pthread_create has it, and as fork has it.
        ("clone", (0x3D0F00,), True),
        ("clone", (0x01200011,), False),
        ("clone", (0,), False),
        ("prctl", (15,), True),
        ("prctl", (22,), False),
        ("prlimit64", (0,), True),
        ("prlimit64", (1,), False),
        ("fcntl", (3, 1030), True),
        ("fcntl", (3, 8), False),
    ],
)
def test_conditions_are_on_arguments(
    architecture: Architecture, name: str, arguments: tuple[int, ...], passes: bool
) -> None:
    told = verdict(
        filter_program(architecture), architecture.audit, architecture.calls[name], arguments
    )
    assert told == (ALLOW if passes else refused(errno.EPERM))


def test_calls_of_another_table_of_numbers_end_the_process(architecture: Architecture) -> None:
    program = filter_program(architecture)
    i386 = 0x40000003
    assert verdict(program, i386, architecture.calls["read"]) == KILL


def test_the_other_table_of_64_bit_calls_is_refused() -> None:
    x32 = 0x40000000
    x86 = ARCHITECTURES["x86_64"]
    program = filter_program(x86)
    assert {verdict(program, x86.audit, x32 | number) for number in range(MOST_NUMBER)} == {
        refused(errno.EPERM)
    }


def test_a_program_fits_into_the_kernels_bound(architecture: Architecture) -> None:
    assert len(filter_program(architecture)) // 8 < 4096


def test_a_status_crosses_a_wire_and_names_what_is_missing() -> None:
    status = SandboxStatus(network="no user namespaces: not permitted")
    assert SandboxStatus.unpack(status.pack()) == status
    assert status.missing == {"network": "no user namespaces: not permitted"}
    assert status.has_no_network, "the filter stands"
    assert not SandboxStatus("none", "none", "").has_no_network
