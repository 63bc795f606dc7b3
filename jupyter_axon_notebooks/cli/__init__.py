"""The command line, ``jupyter axon``.

:mod:`.group` lists the commands and the modules they are in. :mod:`.session` finds the store,
:mod:`.lookup` the records that are named, and :mod:`.output` prints.

=========  ===========================================================================
exit code  meaning
=========  ===========================================================================
0          success
1          failure, in whole or in part; for ``doctor``: a problem was found
2          wrong usage or configuration
3          something was not found, or its name is ambiguous; there is no store
4          the store cannot be used: busy, damaged, read-only, or of a newer version
130        interrupted
=========  ===========================================================================
"""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process, and exit."""
    from .group import commands

    commands(prog_name="jupyter axon")
