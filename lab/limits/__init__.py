"""CPU share, memory limit and freezing of an execution environment's processes, with what this host offers.

Nothing is imported here: the launcher takes single modules of this package and has to stay small.
"""
