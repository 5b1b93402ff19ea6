"""A run: its records and their files, and what the names in them mean."""
