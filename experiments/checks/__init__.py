"""Checks before and after a run: preflight, spending, cleanup."""
