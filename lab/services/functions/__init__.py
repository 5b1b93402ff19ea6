"""Lambda: the catalog of functions and the Invoke API."""
