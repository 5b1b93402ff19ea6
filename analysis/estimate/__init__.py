"""Estimates from rows: samples, cells, costs, differences and the summary that holds them."""
