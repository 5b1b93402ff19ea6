"""What every HTTP server of the lab shares."""
