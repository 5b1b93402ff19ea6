"""EventBridge Scheduler's data plane: expressions, fire times, delivery to functions."""
