"""From logs and client records to a decision: collect, join, estimate, price, judge, recommend, draw, report."""
