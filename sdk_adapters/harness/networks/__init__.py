"""Networks between users and the service, made in user space: no rights are needed for them.

Each session of a network that loses, delays or narrows has a line of its own, up and down:
its gRPC connections lead through relays for TCP, its WebRTC through one for UDP, which stands
in both session descriptions in place of the ends.
"""

from sdk_adapters.harness.networks.way import Way, applied, unapplied

__all__ = ["Way", "applied", "unapplied"]
