"""The vocabulary every other package shares: configuration, matrix, records, the store of a run, the way to AWS."""
