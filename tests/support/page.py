"""A page with JupyterLab and the panel."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from playwright.sync_api import BrowserContext, Error, Locator, Page, Route, ViewportSize, expect

from support.lab import TIMEOUT, LabServer

VIEWPORT: ViewportSize = {"width": 1360, "height": 900}
#: URLs of the requests of the panel. JupyterLab adds the time to each, against caching.
POLL_URL = re.compile(r"/axon/notebooks/[^/?]+\?outputs=false")
LIST_URL = re.compile(r"/axon/notebooks/[^/?]+/checkpoints\?")

#: True if the current notebook is the one at a path, if any, and its kernel is idle.
_IS_READY = """path => {
  const widget = window.jupyterapp?.shell.currentWidget;
  const session = widget?.sessionContext?.session;
  return (path === null || widget?.context?.path === path)
    && session?.kernel?.connectionStatus === 'connected' && session.kernel.status === 'idle';
}"""
#: What the application shows, for a test that waited in vain.
_STATE = """() => {
  const { shell, serviceManager } = window.jupyterapp;
  const describe = widget => [
    widget?.title.label, widget?.context?.path, widget?.context?.isReady,
    widget?.sessionContext?.session?.kernel?.connectionStatus,
    widget?.sessionContext?.session?.kernel?.status,
    widget?.sessionContext?.kernelDisplayStatus
  ].join(' ');
  return {
    current: describe(shell.currentWidget),
    main: [...shell.widgets('main')].map(describe),
    shared: window.sharedKernel,
    kernels: [...serviceManager.kernels.running()].map(k => `${k.id} ${k.execution_state}`),
    dialogs: [...document.querySelectorAll('.jp-Dialog')].map(node => node.innerText)
  };
}"""
#: Open a notebook; with the kernel that such notebooks share, since to start one takes seconds.
_OPEN = """async ([path, hasOwnKernel]) => {
  const { commands, serviceManager } = window.jupyterapp;
  window.sharedKernel ??= (await serviceManager.kernels.startNew({ name: 'python3' })).id;
  const kernel = hasOwnKernel ? {} : { kernel: { id: window.sharedKernel } };
  await commands.execute('docmanager:open', { path, ...kernel });
}"""
#: Change a setting of the panel through JupyterLab's setting registry, which has no public access.
_CHANGE_SETTING = """async ([plugin, name, value]) => {
  const app = window.jupyterapp;
  const plugins = (app.pluginRegistry ?? app)._plugins;
  const registry = plugins.get('@jupyterlab/apputils-extension:settings').service;
  const id = `jupyter-axon-notebooks:${plugin}`;
  await (value === null ? registry.remove(id, name) : registry.set(id, name, value));
}"""
#: Count the saves of notebooks that are in progress.
_WATCH_SAVES = """() => {
  const app = window.jupyterapp;
  const plugins = (app.pluginRegistry ?? app)._plugins;
  const tracker = plugins.get('@jupyterlab/notebook-extension:tracker').service;
  window.saving = 0;
  const watch = widget => widget.context.saveState.connect((_, state) => {
    window.saving += { started: 1, completed: -1, failed: -1 }[state] ?? 0;
  });
  tracker.forEach(watch);
  tracker.widgetAdded.connect((_, widget) => watch(widget));
}"""
#: Close all documents, saved or not, shut down their kernels, and reset the panel. A document that
#: is closed while it is being saved would leave a dialog.
_RESET = """async () => {
  const { serviceManager, shell } = window.jupyterapp;
  for (let i = 0; i < 100 && window.saving > 0; i++) {
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  for (const widget of [...shell.widgets('main')]) {
    widget.dispose();
  }
  const panel = [...shell.widgets('right')].find(({ id }) => id === 'axon-panel');
  panel.content.widgets.forEach((widget, i) => {
    panel.content[i < 2 ? 'expand' : 'collapse'](i);
  });
  panel.content.setRelativeSizes([1, 1]);
  shell.collapseRight();
  for (const { id, kernel } of [...serviceManager.sessions.running()]) {
    if (kernel?.id !== window.sharedKernel) {
      await serviceManager.sessions.shutdown(id);
    }
  }
}"""


def wait_for(read: Callable[[], Any], expected: Any) -> None:
    """Wait until ``read`` returns the expected value; for values that `expect` cannot read."""
    deadline = time.monotonic() + TIMEOUT
    while (value := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert value == expected


class LabPage:
    """A page that is logged in to a server."""

    def __init__(self, page: Page, server: LabServer) -> None:
        self.page = page
        self.server = server

    def load(self, path: str | None = None, app: str = "lab") -> None:
        """Load the application, optionally with a notebook, and wait until it is ready."""
        url = "lab" if app == "lab" else "tree"
        if path is not None:
            url = f"{'lab/tree' if app == 'lab' else 'notebooks'}/{quote(path)}"
        self.page.goto(f"{self.server.url}/{url}?token={self.server.token}&reset")
        if path is None:
            self.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        else:
            self._wait_until_ready(None)

    def open(self, path: str, *, has_own_kernel: bool = False) -> None:
        """Open a notebook in the loaded application and wait until it is ready."""
        self.page.evaluate(_OPEN, [path, has_own_kernel])
        self._wait_until_ready(path)

    def _wait_until_ready(self, path: str | None) -> None:
        try:
            self.page.wait_for_function(_IS_READY, arg=path)
        except Error as error:
            raise AssertionError(f"not ready: {self.page.evaluate(_STATE)}") from error

    def execute(self, id: str, **args: object) -> None:
        """Execute a command and wait for it."""
        self.page.evaluate(
            "async ([id, args]) => void (await window.jupyterapp.commands.execute(id, args))",
            [id, args],
        )

    def start(self, id: str, **args: object) -> None:
        """Execute a command without waiting for it."""
        self.page.evaluate(
            "([id, args]) => void window.jupyterapp.commands.execute(id, args)", [id, args]
        )

    def open_panel(self) -> Locator:
        buttons = ".axon-StatusButton button:visible, .axon-StatusButton jp-button:visible"
        self.page.locator(buttons).first.click()
        self.panel.wait_for(state="visible")
        return self.panel

    def show(self, path: str, checkpoints: int | None = None) -> Locator:
        """Open a notebook and the panel; wait for a number of rows of checkpoints."""
        self.open(path)
        self.open_panel()
        if checkpoints is not None:
            expect(self.rows).to_have_count(checkpoints)
        return self.panel

    @property
    def panel(self) -> Locator:
        return self.page.locator("#axon-panel")

    @property
    def header(self) -> Locator:
        return self.panel.locator(".axon-Header")

    @property
    def grid(self) -> Locator:
        return self.panel.get_by_role("grid")

    @property
    def rows(self) -> Locator:
        """The rendered rows of checkpoints."""
        return self.panel.locator(".axon-Grid-row")

    def row(self, checkpoint_id: str) -> Locator:
        return self.panel.locator(f'[data-checkpoint="{checkpoint_id}"]')

    def section(self, title: str) -> Locator:
        """Return the title of a section, which opens and closes it."""
        return self.panel.locator(".lm-AccordionPanel-title", has_text=title).first

    def select(self, *checkpoint_ids: str) -> None:
        for checkpoint_id in checkpoint_ids:
            self.row(checkpoint_id).get_by_role("checkbox").check()

    def menu_item(self, label: str) -> Locator:
        return self.page.locator(".lm-Menu-item", has_text=label)

    def choose(self, checkpoint_id: str, label: str) -> None:
        """Choose an item of the menu of a checkpoint."""
        self.row(checkpoint_id).click(button="right")
        self.menu_item(label).click()

    @property
    def dialog(self) -> Locator:
        return self.page.locator(".jp-Dialog")

    @property
    def notification(self) -> Locator:
        return self.page.locator(".Toastify__toast")

    def active_cell(self) -> str:
        """Return the source of the active cell."""
        source: str = self.page.evaluate(
            "window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource()"
        )
        return source

    def clipboard(self) -> str:
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def filter(self, query: str) -> None:
        self.panel.get_by_label("Filter of checkpoints").fill(query)

    def cell(self, checkpoint_id: str, column: str) -> Locator:
        """Return a cell of the table of checkpoints."""
        titles = self.panel.locator(".axon-Grid-head [role=columnheader]").all_inner_texts()
        index = [title.strip("\n▾▴ ") for title in titles].index(column)
        return self.row(checkpoint_id).get_by_role("gridcell").nth(index)

    def expand_reproducibility(self) -> Locator:
        """Show the reasons why a checkpoint may not be reproducible."""
        details = self.panel.locator("details.axon-Reproducibility")
        details.locator("summary").click()
        return details

    def save(self) -> None:
        self.execute("docmanager:save")

    def change_setting(self, name: str, value: object, plugin: str = "panel") -> None:
        """Change a setting; None restores its default."""
        self.page.evaluate(_CHANGE_SETTING, [plugin, name, value])

    def hold_responses(self, url: re.Pattern[str], method: str = "GET") -> Callable[[], None]:
        """Hold responses back until the returned function is called.

        For GET, waits until the first one is held back.
        """
        held: list[tuple[Route, Any]] = []
        is_holding = True

        def handle(route: Route) -> None:
            if not is_holding or route.request.method != method:
                route.continue_()
                return
            response = route.fetch()
            if is_holding:
                held.append((route, response))
            else:
                route.fulfill(response=response)

        self.page.route(url, handle)
        if method == "GET":
            while not held:
                self.page.wait_for_event("request")

        def release() -> None:
            nonlocal is_holding
            is_holding = False
            for route, response in held:
                route.fulfill(response=response)

        return release


class SharedPage:
    """A page that tests use one after the other: loading one takes much longer than resetting it."""

    def __init__(self, context: BrowserContext, server: LabServer) -> None:
        self._context = context
        self._server = server
        self._lab: LabPage | None = None

    def get(self) -> LabPage:
        """Return the page, with nothing open."""
        if self._lab is None:
            self._lab = LabPage(self._context.new_page(), self._server)
            self._lab.load()
            self._lab.page.evaluate(_WATCH_SAVES)
        return self._lab

    def reset(self, *, reload: bool) -> None:
        """Undo what a test did; with ``reload``, as after a failure, by closing the page."""
        assert self._lab is not None
        page = self._lab.page
        for other in self._context.pages:
            if other is not page or reload:
                other.close()
        if reload:
            self._lab = None
            return
        page.unroute_all()
        page.set_viewport_size(VIEWPORT)
        for _ in range(2):
            page.keyboard.press("Escape")  # closes a menu or dialog
        page.evaluate(_RESET)
