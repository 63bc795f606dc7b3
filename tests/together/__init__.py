"""Several processes at work on one store at the same time, and what must come of it.

* :mod:`.work`: what each process does: workers, a reader, a slow saver, a sweeper, and one that forks
* :mod:`.ledger`: what a worker was told is done
* :mod:`.crowd`: has them all work at once, and holds the store to their ledgers

``benchmarks/concurrency.py`` does the same for longer.
"""
