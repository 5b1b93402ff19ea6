"""Lambda: the catalogue of functions and the Invoke API."""
