"""How often somebody may call: token buckets for callers and for addresses.

Rates protect one gateway from being kept busy, so each gateway, or its front door, counts for
itself. What a tenant or a key may use of the service is a quota, counted by the scheduler over
all gateways (`scheduler.core.quotas`).
"""
