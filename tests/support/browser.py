"""Fixtures for browser tests: a server, a browser and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from support.lab import LabServer, find_chromium, run_lab
from support.page import VIEWPORT, LabPage, SharedPage

#: Milliseconds after which something counts as never happening, on a busy machine too.
TIMEOUT = 20_000
_HAS_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    with run_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(
        viewport=VIEWPORT, permissions=["clipboard-read", "clipboard-write"], accept_downloads=True
    )
    context.set_default_timeout(TIMEOUT)
    expect.set_options(timeout=TIMEOUT)
    yield context
    context.close()


@pytest.fixture(scope="session")
def shared_page(context: BrowserContext, server: LabServer) -> SharedPage:
    return SharedPage(context, server)


@pytest.fixture
def lab(request: pytest.FixtureRequest, shared_page: SharedPage) -> Iterator[LabPage]:
    """JupyterLab with nothing open."""
    yield shared_page.get()
    shared_page.reset(reload=request.node.stash.get(_HAS_FAILED, False))


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """The path of a notebook that no other test uses."""
    name: str = request.node.name
    return f"{''.join(c if c.isalnum() else '_' for c in name.removeprefix('test_'))}.ipynb"


@pytest.fixture
def notebook(lab: LabPage, path: str) -> str:
    """The id of a notebook with one checkpoint, which is open beside the panel."""
    notebook_id = lab.server.create_record(path, "x = 1")
    lab.server.add_checkpoint(notebook_id, 0, 1, metrics={"loss": 0.5})
    lab.show(path, checkpoints=1)
    return notebook_id


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[None]:
    """Save a screenshot of a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab is not None:
        item.stash[_HAS_FAILED] = True
        if report.when == "call":
            folder = Path("build", "ui")
            folder.mkdir(parents=True, exist_ok=True)
            lab.page.screenshot(path=folder / f"{item.name}.png")
