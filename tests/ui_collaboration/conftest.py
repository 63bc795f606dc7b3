"""Fixtures of the browser tests for an environment with jupyter-collaboration."""

from __future__ import annotations

from support.browser import *  # noqa: F403
