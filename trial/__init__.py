"""Try any container-image function in the lab, without editing a file."""
