"""Images without a container engine: what the CDK command line calls as `docker`, and where it leaves them."""
