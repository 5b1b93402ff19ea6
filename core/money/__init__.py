"""AWS's prices, and what they make of calls."""
