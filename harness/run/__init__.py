"""One suite, run: the order of the stages, batching, measurement, latency and progress."""
