"""What every command does alike: arguments, progress, child processes, Ctrl-C."""
