"""Traffic, simulated: arrivals, the pool of execution environments, strategies, a month in time and money. No I/O."""
