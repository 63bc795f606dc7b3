"""Several processes that work on one store at once.

Each process logs what was acknowledged to it. The store must hold exactly what all logs say.
"""
