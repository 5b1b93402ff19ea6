"""The seams to the AWS APIs that an experiment calls."""
