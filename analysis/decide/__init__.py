"""Verdicts: the paper's claims and the recommendation."""
