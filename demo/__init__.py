"""The whole job on this machine, as `make demo` runs it."""
