"""Fuzzing of everything that reads bytes of strangers.

A target is a module with `fuzz_one(data: bytes) -> None`, which raises nothing but what is a
fault of ours, and `seeds()`, the inputs that a search begins with. Each is used twice: by
`tests/properties/test_fuzz.py` for a second, with hypothesis, and by `python -m tests.fuzz
TARGET`, with atheris, for as long as one likes. `corpus/TARGET/` holds what was found by the
latter: inputs that reach far, and all that ever failed.
"""
