"""Processes that are killed in the middle of an operation, and the state that they must leave.

Every operation must be atomic: after a kill the store and the state files are as before the
operation or as after it, and an operation that returned has taken effect. The expected states come
from executing the same operation undisturbed.
"""
