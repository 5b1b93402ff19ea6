"""The load experiment: arrivals that keep to a schedule whatever the answers do, sent from inside Locust."""
