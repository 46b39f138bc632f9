"""Journals of sessions, for whom they belong to."""
