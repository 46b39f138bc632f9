"""Drives sessions: sources, compute, frames, outputs."""
