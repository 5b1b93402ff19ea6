"""From raw logs, metrics and client records to one row per invocation."""
