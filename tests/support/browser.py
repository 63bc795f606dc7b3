"""A real server, a real browser, and hands to work with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from support.lab import Lab, find_chromium, running_lab
from support.page import VIEWPORT, Desk, Hands

HAS_FAILED = pytest.StashKey[bool]()
#: Milliseconds after which what should be there counts as never coming, on a machine that is busy with other things too.
PATIENCE = 20_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(
        viewport=VIEWPORT, permissions=["clipboard-read", "clipboard-write"], accept_downloads=True
    )
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="session")
def desk(context: BrowserContext, lab: Lab) -> Desk:
    return Desk(context, lab)


@pytest.fixture
def hands(request: pytest.FixtureRequest, desk: Desk) -> Iterator[Hands]:
    """Somebody in a JupyterLab with nothing open."""
    yield desk.hands()
    desk.clear(reload=request.node.stash.get(HAS_FAILED, False))


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """The path of a notebook that no other test has."""
    name: str = request.node.name
    return f"{''.join(c if c.isalnum() else '_' for c in name.removeprefix('test_'))}.ipynb"


@pytest.fixture
def recorded(hands: Hands, path: str) -> str:
    """The record of a notebook with one checkpoint that is open beside the panel."""
    hands.lab.write(path, "x = 1")
    notebook = hands.lab.record(path)
    hands.lab.checkpoint(notebook, 0, 1, metrics={"loss": 0.5})
    hands.open(path)
    hands.open_panel()
    expect(hands.rows).to_have_count(1)
    return notebook


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[None]:
    """Leave a picture of what a failed test saw."""
    outcome: Any = yield
    report = outcome.get_result()
    hands = getattr(item, "funcargs", {}).get("hands")
    if report.failed and hands is not None:
        item.stash[HAS_FAILED] = True
    if report.when == "call" and report.failed and hands is not None:
        folder = Path("build", "ui")
        folder.mkdir(parents=True, exist_ok=True)
        hands.page.screenshot(path=folder / f"{item.name}.png")
