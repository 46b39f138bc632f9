"""Two tenants try everything against each other, on every door: nothing leaks."""
