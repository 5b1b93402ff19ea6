"""The machine that the lab runs on: its resources, its load, its state directory."""
