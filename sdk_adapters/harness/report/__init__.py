"""Reports of load tests: what stands in them, how they are made, how they are shown."""
