"""Decoding of what is foreign, in its own processes; encoding of what is ours."""
