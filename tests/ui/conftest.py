"""Playwright's synchronous API keeps an event loop running, which pytest-jupyter's fixtures do not bear: these tests are a
pytest run of their own, `make test-ui`.
"""

from __future__ import annotations

from support.browser import *  # noqa: F403
