"""SQLite files written by separate processes, so that no invoke waits for a row."""
