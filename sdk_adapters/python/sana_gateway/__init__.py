"""Client of sana-gateway: typed sessions over gRPC, media over gRPC or WebRTC."""
