"""Stores in SQLite files."""

from .engine import SqliteEngine
from .files import file_system, move_aside

__all__ = ["SqliteEngine", "file_system", "move_aside"]
