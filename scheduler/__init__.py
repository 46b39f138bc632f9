"""The session language, the pool and its decisions; and what every process shares."""
