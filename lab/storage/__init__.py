"""SQLite files that processes of their own write, so that no invoke waits for a row."""
