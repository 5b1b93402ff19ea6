"""CPU share, memory limit and freezing of an execution environment's processes, by what this host offers."""
