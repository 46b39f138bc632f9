"""The wire of the Reactor SDKs: HTTP signalling, JSON and protobuf data channels."""
