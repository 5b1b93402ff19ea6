"""A Lambda on this machine: moto as control plane, our own data plane, one loopback address."""
