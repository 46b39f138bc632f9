"""Terminates clients over gRPC, HTTP and WebRTC and shuttles their packets."""
