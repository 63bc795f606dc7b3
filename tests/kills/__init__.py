"""Processes that are killed in the middle of their work, and what must be left of it.

A child process follows a *plan*, a list of operations, and says of each when it begins and when it has returned. It is
killed somewhere. The parent opens the store again and holds what it finds to a small model of what was acknowledged.

* :mod:`.plans`: operations, and plans of them
* :mod:`.hands`: does them, through the repository
* :mod:`.model`: says what must then be there; :mod:`.observed`: tells what is
* :mod:`.points`: where a process is killed
* :mod:`.nursery`: processes that are
* :mod:`.trial`: one kill, and everything that is claimed of it

``benchmarks/crash.py`` does the same many times more.
"""
