"""What people do in the browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from playwright.sync_api import BrowserContext, Locator, Page, ViewportSize

from support.lab import PATIENCE, Lab

VIEWPORT: ViewportSize = {"width": 1360, "height": 900}

#: True once the notebook in front is the one at a path, if one is asked for, and its kernel waits for work.
_IS_READY = """path => {
  const widget = window.jupyterapp?.shell.currentWidget;
  const session = widget?.sessionContext?.session;
  return (path === null || widget?.context?.path === path)
    && session?.kernel?.connectionStatus === 'connected' && session.kernel.status === 'idle';
}"""
#: Close everything that is open, unsaved or not, and end the kernels.
_CLEAR = """async () => {
  const { serviceManager, shell } = window.jupyterapp;
  for (const widget of [...shell.widgets('main')]) {
    widget.dispose();
  }
  const panel = [...shell.widgets('right')].find(({ id }) => id === 'axon-panel');
  panel.content.widgets.forEach((widget, i) => {
    panel.content[i < 3 ? 'expand' : 'collapse'](i);
  });
  panel.content.setRelativeSizes([2, 3, 3]);
  shell.collapseRight();
  await serviceManager.sessions.shutdownAll();
}"""


def eventually(read: Callable[[], Any], expected: Any) -> None:
    """Claim that what is read becomes equal to what is expected, as Playwright's `expect` does for what it can read."""
    deadline = time.monotonic() + PATIENCE
    while (found := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


class Hands:
    """Somebody at a page; their browser has logged in by the server's token."""

    def __init__(self, page: Page, lab: Lab) -> None:
        self.page = page
        self.lab = lab

    def arrive(self, path: str | None = None, app: str = "lab") -> None:
        """Load the application, with a notebook if a path is given, and wait until it can be worked with."""
        if path is None:
            place = "lab"
        else:
            place = f"{'lab/tree' if app == 'lab' else 'notebooks'}/{quote(path)}"
        self.page.goto(f"{self.lab.url}/{place}?token={self.lab.token}&reset")
        if path is None:
            self.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        else:
            self.page.wait_for_function(_IS_READY, arg=None)

    def open(self, path: str) -> None:
        """Open a notebook where the application is loaded, and wait until it can be worked with."""
        self.command("docmanager:open", path=path)
        self.page.wait_for_function(_IS_READY, arg=path)

    def command(self, id: str, **args: object) -> None:
        """What the palette or a menu would do."""
        self.page.evaluate(
            "async ([id, args]) => void (await window.jupyterapp.commands.execute(id, args))",
            [id, args],
        )

    def open_panel(self) -> Locator:
        self.page.locator(
            ".axon-StatusButton button:visible, .axon-StatusButton jp-button:visible"
        ).first.click()
        panel = self.panel
        panel.wait_for(state="visible")
        return panel

    @property
    def panel(self) -> Locator:
        return self.page.locator("#axon-panel")

    @property
    def rows(self) -> Locator:
        """The rows of checkpoints that are drawn."""
        return self.panel.locator(".axon-Grid-row")

    def row(self, checkpoint_id: str) -> Locator:
        return self.panel.locator(f'[data-checkpoint="{checkpoint_id}"]')

    def active_cell(self) -> str:
        """The source of the active cell."""
        source: str = self.page.evaluate(
            "window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource()"
        )
        return source

    def clipboard(self) -> str:
        copied: str = self.page.evaluate("navigator.clipboard.readText()")
        return copied

    def section(self, title: str) -> Locator:
        """The head of a section, which opens and closes it."""
        return self.panel.locator(".lm-AccordionPanel-title", has_text=title).first

    def filter(self, query: str) -> None:
        """Show the checkpoints that are like that."""
        self.panel.locator("jp-search input").fill(query)

    def save(self) -> None:
        self.command("docmanager:save")


class Desk:
    """A page that tests share one after the other: to load one takes ten times as long as to open a notebook in it."""

    def __init__(self, context: BrowserContext, lab: Lab) -> None:
        self._context = context
        self._lab = lab
        self._hands: Hands | None = None

    def hands(self) -> Hands:
        """Somebody at the page, where nothing is open."""
        if self._hands is None:
            self._hands = Hands(self._context.new_page(), self._lab)
            self._hands.arrive()
        return self._hands

    def clear(self, *, reload: bool) -> None:
        """Leave nothing of what was done; with ``reload`` the page neither, as after a failure."""
        assert self._hands is not None
        page = self._hands.page
        for other in self._context.pages:
            if other is not page or reload:
                other.close()
        if reload:
            self._hands = None
            return
        page.unroute_all()
        page.set_viewport_size(VIEWPORT)
        for _ in range(2):
            page.keyboard.press("Escape")  # a menu, a dialog
        page.evaluate(_CLEAR)
