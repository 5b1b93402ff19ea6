"""The data plane: execution environments, their life cycle, the Runtime API, concurrency, logs and metrics."""
