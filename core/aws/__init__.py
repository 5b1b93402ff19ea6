"""The way to AWS or a lab: where everything runs, how it is reached, and what load tasks there are called."""
