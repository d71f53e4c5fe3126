"""A server and its workers with one more operation, `misbehave`, which does what no operation should."""
