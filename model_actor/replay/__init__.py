"""Replay: a session made again from its journal, and compared with what was shown."""
