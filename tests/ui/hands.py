"""What people do in the browser."""

from __future__ import annotations

from urllib.parse import quote

from lab import Lab
from playwright.sync_api import Locator, Page

#: True once the notebook in front has a kernel that waits for work.
_IS_READY = """() => {
  const session = window.jupyterapp?.shell.currentWidget?.sessionContext?.session;
  return session?.kernel?.connectionStatus === 'connected' && session.kernel.status === 'idle';
}"""


class Hands:
    """Somebody at a page; their browser has logged in by the server's token."""

    def __init__(self, page: Page, lab: Lab) -> None:
        self.page = page
        self.lab = lab

    def open(self, path: str, app: str = "lab") -> None:
        """Open a notebook, and wait until it can be worked with."""
        tree = "lab/tree" if app == "lab" else "notebooks"
        self.page.goto(f"{self.lab.url}/{tree}/{quote(path)}?token={self.lab.token}&reset")
        self.page.wait_for_function(_IS_READY)

    def command(self, id: str, **args: object) -> None:
        """What the palette or a menu would do."""
        self.page.evaluate(
            "async ([id, args]) => void (await window.jupyterapp.commands.execute(id, args))", [id, args]
        )

    def open_panel(self) -> Locator:
        self.page.locator(".axon-StatusButton button, .axon-StatusButton jp-button").first.click()
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

    def section(self, title: str) -> Locator:
        """The head of a section, which opens and closes it."""
        return self.panel.locator(".lm-AccordionPanel-title", has_text=title).first

    def save(self) -> None:
        self.command("docmanager:save")
