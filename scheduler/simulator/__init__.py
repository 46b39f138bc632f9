"""The real scheduler core in virtual time, with users and GPUs that do not exist."""
