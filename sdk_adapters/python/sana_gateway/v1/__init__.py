"""Public contract, version 1: the generated messages and stubs."""
