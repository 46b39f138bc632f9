"""Tells a Ray cluster that a node is to go: `python -m scheduler.backends.ray_drain`.

Takes the head's address, the id of the node, and the seconds that are left. The cluster
gives the node no more work; the scheduler sees it among those that drain. A process of its
own, as importing Ray takes seconds and reads the cluster's token from the environment.
"""

from __future__ import annotations

import sys
import time

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]


def main(address: str, node_id: str, seconds: str) -> int:
    """Returns the exit status: 0 when the cluster has taken it."""
    deadline_ms = round((time.time() + float(seconds)) * 1000)
    # Of the reasons, the one that a node with work on it may not refuse.
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    taken, _ = GcsClient(address=address).drain_node(node_id, reason, "told to end", deadline_ms)
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
