"""Benches: each measures the project beside a named peer, in one run on one machine."""
