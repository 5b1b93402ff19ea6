"""One module for each subcommand of `python -m analysis`; `collect` is `analysis/collect.py`."""
