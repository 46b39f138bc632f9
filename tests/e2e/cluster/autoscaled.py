"""A Ray cluster that grows and shrinks: Ray's own autoscaler, and nodes on this machine.

The autoscaler and the nodes (raylets) are real; only who starts them is Ray's provider for
tests, `fake_multinode`. All of it runs in one network namespace, in a session of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scheduler.backends.ray_node import ACTOR_RESOURCE
from tests.e2e.cluster.hosts import Host

PORT = 6379
MOST_NODES = 3
STORE_BYTES = 80 * 1024 * 1024
IDLE_MIN = 0.05
"""How long a node must be idle before the autoscaler ends it."""
UP_S = 90.0
HEAD_ID = "f" * 51 + "00000"
"""How the provider knows the head."""


def cluster_config(address: str) -> dict[str, Any]:
    """Returns what `ray start --autoscaling-config` reads: up to three nodes with an actor each."""
    nothing = (
        *("initialization_commands", "setup_commands", "head_setup_commands"),
        *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
        *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
    )
    empty: dict[str, Any] = {key: [] for key in nothing}
    return empty | {
        "cluster_name": "fake",
        "max_workers": MOST_NODES,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE_MIN,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            # The nodes have one address.
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {
                    "CPU": 0, ACTOR_RESOURCE: 1, "object_store_memory": STORE_BYTES
                },
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST_NODES,
            },
        },
    }  # fmt: skip


@contextlib.contextmanager
def autoscaled_ray(host: Host, env: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Runs a Ray head without room for actors, with its autoscaler; yields its address.

    Args:
        host: Where.
        env: The token of the cluster.
        folder: For Ray's sockets and logs: its path is short.
    """
    address = f"{host.address}:{PORT}"
    config = folder / "cluster.json"
    config.write_text(json.dumps(cluster_config(address)))
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_metrics_collection": "0",
    }
    command = [
        *(*host.prefix, sys.executable, "-m", "scheduler.backends.ray_command", "start"),
        *("--head", "--block", f"--node-ip-address={host.address}", f"--port={PORT}"),
        *(f"--temp-dir={folder / 'ray'}", "--num-cpus=0", "--num-gpus=0"),
        *(f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"),
        *("--include-log-monitor=false", "--disable-usage-stats"),
        f"--autoscaling-config={config}",
    ]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **env, **variables},
            start_new_session=True,
        )
    try:
        _await_monitor(process, folder)
        yield address
    finally:
        _end(process)


def nodes(folder: Path) -> int:
    """Returns how many nodes run beside the head."""
    lines = [each.read_bytes() for each in Path("/proc").glob("[0-9]*/cmdline") if _readable(each)]
    ours = [line for line in lines if b"/raylet/raylet\0" in line and bytes(folder) in line]
    return sum(HEAD_ID.encode() not in line for line in ours)


def _readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def _await_monitor(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Returns once the autoscaler looks after the cluster."""
    deadline = time.monotonic() + UP_S
    while True:
        logs = folder.glob("ray/session_2*/logs/monitor.log")
        if any("The autoscaler took" in each.read_text(errors="replace") for each in logs):
            return
        if process.poll() is not None or time.monotonic() >= deadline:
            raise RuntimeError((folder / "ray.log").read_text(errors="replace")[-2000:])
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends all that runs in the session."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == process.pid:
                os.kill(int(folder.name), signal.SIGKILL)
    process.wait()
