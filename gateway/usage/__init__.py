"""Usage: what this gateway carries for sessions, and what operators and tenants may read of it."""
