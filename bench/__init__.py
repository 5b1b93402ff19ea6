"""Benches: each measures the project next to a named peer, in one run on one machine."""
