"""Locust against a running Flashgrab, by HTTP and the command line only: `make load`."""
