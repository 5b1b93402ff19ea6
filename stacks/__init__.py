"""What is deployed, split by life cycle: Functions, Endpoints, Schedules, Monitoring."""
