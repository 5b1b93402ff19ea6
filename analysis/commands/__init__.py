"""One module for each subcommand of `inference-lab analysis`; `collect` is `analysis/collect.py`."""
