"""The browser tests' server and browser, where jupyter-collaboration is installed: an environment and a run of their own."""

from __future__ import annotations

from support.browser import *  # noqa: F403
