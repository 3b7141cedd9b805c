"""Flashgrab: the shared words of the product and its only adapters to outside systems."""

__version__ = "0.1.0"
