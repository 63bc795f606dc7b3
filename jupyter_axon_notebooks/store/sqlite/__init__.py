"""Stores in SQLite files."""

from .files import file_system, move_aside

__all__ = ["file_system", "move_aside"]
