"""How an execution environment is started and held: as a process of this host, or as a container."""
