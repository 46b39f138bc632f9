"""The language of scenarios: who comes, what serves them, what must hold.

Read by the simulator, which puts a workload on a pool that does not exist, and by the load
harness, which puts the same on a service. Pure: nothing here waits, connects or measures.
"""

from scheduler.core.errors import ConfigurationError

__all__ = ["ConfigurationError"]
