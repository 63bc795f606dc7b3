"""The command line, ``jupyter axon``.

A command is a module of :mod:`.commands` that has a click command named ``command``; it is called as its module is
(without a trailing underscore, and with ``-`` for ``_``). Nothing else has to be told of it.

What commands have in common: which store they work on and as whom (:mod:`.session`), how they name a record
(:mod:`.which`), and how they print (:mod:`.output`). Results go to standard output, everything else to standard error.

=========  =====================================================================================
exit code  meaning
=========  =====================================================================================
0          done
1          failed, in whole or in part; ``doctor``: found a problem
2          the command line, or the configuration, is wrong
3          what was named is not there, or is not the only one of that name; also a missing store
4          the store cannot be used: busy, damaged, read-only, written by a newer version
130        interrupted
=========  =====================================================================================
"""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process, and exit."""
    from .group import commands

    commands(prog_name="jupyter axon")
