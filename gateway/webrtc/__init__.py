"""Peer connections of clients, on aiortc."""
