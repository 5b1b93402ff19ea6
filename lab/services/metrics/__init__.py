"""CloudWatch metrics: raw values on disk, statistics and percentiles over them."""
