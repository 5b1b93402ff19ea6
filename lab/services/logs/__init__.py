"""CloudWatch Logs: events on disk, filter patterns, pages."""
