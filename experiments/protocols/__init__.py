"""One module per protocol: cold, warm, load, swapping."""
