"""Clients that measure: built on our own client library alone."""
