"""Rules of statistics that measuring and analysis share. No I/O."""
