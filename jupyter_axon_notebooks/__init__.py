"""Durable training-notebook records and checkpoints for Jupyter."""

__version__ = "0.1.0"
