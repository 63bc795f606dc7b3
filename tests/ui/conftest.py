"""Fixtures of the browser tests.

Playwright's event loop keeps running, which breaks pytest-jupyter's fixtures: run these tests apart
from others (`make test-ui`).
"""

from __future__ import annotations

from support.browser import *  # noqa: F403
