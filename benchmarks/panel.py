"""Measure the panel: opening notebooks, 10,000 checkpoints, freshness, bundle size.

Needs JupyterLab, Playwright and Chromium; `make bench-panel` installs them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from playwright.sync_api import Browser, Page, sync_playwright
from reporting import Goal, milliseconds, place, plain, written
from saves import compared
from servers import Client, jupyter_server
from stores import metrics, open_at
from timing import Timed, describe_machine, summarize, temporary_folder

import jupyter_axon_notebooks
from jupyter_axon_notebooks.records import NewCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository

_NAME = "jupyter-axon-notebooks"
_BUILT = Path(jupyter_axon_notebooks.__file__).parent / "labextension" / "static"
_LARGEST = 150_000
_DRAWN, _FRESH = Goal(seconds=0.5), Goal(seconds=2.0)
#: The number of cells of the opened notebook.
_CELLS = 50

#: Opens a notebook and returns the milliseconds until it is drawn.
_OPEN = """async path => {
  const { commands, shell } = window.jupyterapp;
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  for (const widget of [...shell.widgets('main')]) {
    widget.dispose();
  }
  await frame();
  const began = performance.now();
  const widget = await commands.execute('docmanager:open', { path });
  await widget.context.ready;
  await widget.revealed;
  await frame();
  await frame();
  return performance.now() - began;
}"""
#: Opens the panel and returns the milliseconds until rows and curves are drawn, and the longest
#: task of the main thread.
_SHOW = """async count => {
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  const isDrawn = () =>
    document.querySelector('.axon-Grid')?.getAttribute('aria-rowcount') === String(count + 1)
    && document.querySelector('.axon-Grid-row') !== null
    && document.querySelector('.axon-Curves canvas') !== null;
  const began = performance.now();
  void window.jupyterapp.commands.execute('axon:toggle-panel');
  let last = began;
  let longest = 0;
  while (!isDrawn()) {
    await frame();
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }
  await frame();
  await frame();
  return [performance.now() - began, longest];
}"""
#: Notes when each row appears.
_WATCH = """() => {
  window.seen = {};
  new MutationObserver(() => {
    for (const { dataset } of document.querySelectorAll('.axon-Grid-row')) {
      window.seen[dataset.checkpoint] ??= Date.now();
    }
  }).observe(document.getElementById('axon-panel'), { childList: true, subtree: true });
}"""


class Row(NamedTuple):
    """A line of the result, with its baseline `beside` and the 95 % interval of the ratio."""

    what: str
    ours: Timed
    beside: str = ""
    baseline: Timed | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    goal: Goal | None = None

    @property
    def is_met(self) -> bool | None:
        """Return whether the goal is met; None without a goal."""
        if self.goal is None or self.goal.seconds is None:
            return None
        return self.ours.median < self.goal.seconds


def main() -> None:
    chosen = options()
    with temporary_folder(chosen.folder) as folder:
        where = describe_machine(
            folder, [f"SQLite {sqlite3.sqlite_version}", f"JupyterLab {version('jupyterlab')}"]
        )
        with Lab.running(folder / "server") as lab, chromium() as browser:
            rows = [*open_notebooks(lab, browser, chosen.rounds), *many(lab, browser, chosen)]
    size = sum(len(gzip.compress(file.read_bytes())) for file in _BUILT.glob("*.js"))
    lines = [{**plain(row), "is_met": row.is_met} for row in rows]
    if not written({"machine": where, "rows": lines, "bundle": size}, json_to=chosen.json):
        print_table(rows)
        missed = "" if size < _LARGEST else ", missed"
        print(
            f"\nThe bundle: {size / 1000:.1f} kB with gzip "
            f"(goal < {_LARGEST / 1000:.0f} kB{missed})."
        )
        print(place(where))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20, help="number of repetitions")
    parser.add_argument(
        "--checkpoints",
        type=int,
        default=10_000,
        metavar="N",
        help="number of checkpoints of the notebook",
    )
    parser.add_argument("--folder", type=Path, help="folder for the server's files")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON, in seconds: to a file, or instead of the table",
    )
    return parser.parse_args()


class Lab:
    """A server with JupyterLab, in which the panel can be switched off for new pages."""

    def __init__(self, folder: Path, client: Client) -> None:
        self.client = client
        self._folder = folder
        configuration = json.loads((folder / "configuration.json").read_text())
        self._token = configuration["IdentityProvider"]["token"]
        self._url = f"http://127.0.0.1:{client.connected().port}"

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Lab]:
        """Start one and stop it at the end."""
        settings = folder / "settings"
        settings.mkdir(parents=True)
        lab = {
            "expose_app_in_browser": True,
            "app_settings_dir": str(settings),
            "news_url": None,
            "user_settings_dir": str(folder / "user-settings"),
            "workspaces_dir": str(folder / "workspaces"),
        }
        quiet = folder / "user-settings" / "@jupyterlab" / "apputils-extension"
        quiet.mkdir(parents=True)
        (quiet / "notification.jupyterlab-settings").write_text(
            '{"fetchNews": "false", "checkForUpdates": false}'
        )
        extensions = ["jupyter_axon_notebooks", "jupyterlab"]
        with jupyter_server(folder, extensions, {"LabApp": lab}) as client:
            yield cls(folder, client)

    @property
    def store(self) -> str:
        """Return the URL of its store."""
        return f"sqlite:///{self._folder}/data/axon_notebooks/axon.db"

    def write(self, path: str) -> str:
        """Write a notebook into its folder and return the id of its record."""
        cells = [nbformat.v4.new_code_cell(f"x = {number}") for number in range(_CELLS)]
        kernel = {"name": "python3", "display_name": "Python 3"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        (self._folder / "root" / path).write_text(nbformat.writes(notebook))
        return str(self.client.say("POST", "/axon/notebooks/sync", {"path": path})["id"])

    def page(self, browser: Browser, *, panel: bool = True) -> Page:
        """Open JupyterLab in a browser, with the panel or without."""
        configuration = {} if panel else {"disabledExtensions": {_NAME: True}}
        (self._folder / "settings" / "page_config.json").write_text(json.dumps(configuration))
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{self._url}/lab?token={self._token}&reset")
        page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        has_panel = page.evaluate("window.jupyterapp.commands.hasCommand('axon:toggle-panel')")
        if has_panel != panel:
            sys.exit("the panel is not built" if panel else "the panel is not switched off")
        return page


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser and close it at the end."""
    named = os.environ.get("AXON_CHROMIUM")
    names = (
        (named,)
        if named
        else ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    )
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit("this needs Chromium: install the package chromium (Debian, Fedora) or Chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


def open_notebooks(lab: Lab, browser: Browser, rounds: int) -> Iterator[Row]:
    """Time opening a notebook with the panel closed, in turn with JupyterLab without the panel."""
    lab.write("train.ipynb")
    pages = {"on": lab.page(browser), "off": lab.page(browser, panel=False)}
    taken: dict[str, list[float]] = {"on": [], "off": []}
    for number in range(-3, rounds):
        for way in ("on", "off") if number % 2 else ("off", "on"):
            pages[way].bring_to_front()
            elapsed = pages[way].evaluate(_OPEN, "train.ipynb") / 1000
            if number >= 0:
                taken[way].append(elapsed)
    seen = compared(taken["on"], taken["off"])
    yield Row(
        "open a notebook, the panel closed",
        summarize(taken["on"]),
        "without the panel",
        summarize(taken["off"]),
        seen.ratio,
        seen.low,
        seen.high,
    )
    for page in pages.values():
        page.close()


def many(lab: Lab, browser: Browser, chosen: argparse.Namespace) -> Iterator[Row]:
    """Time showing many checkpoints, and the way of a new one from the server into the table."""
    notebook_id = lab.write("many.ipynb")
    count = chosen.checkpoints
    with open_at(lab.store) as store:
        repository = NotebookRepository(store)
        with store.transaction():
            for number in range(count):
                run, step = divmod(number, max(1, count // 4))
                repository.create_checkpoint(
                    NewCheckpoint(
                        notebook_id=notebook_id,
                        run_id=f"{notebook_id}-{run}",
                        epoch=step // 10,
                        step=step,
                        metrics=metrics(step),
                    )
                )
    page = lab.page(browser)
    drawn, longest = [], []
    for number in range(-1, chosen.rounds):
        page.evaluate(_OPEN, "many.ipynb")
        page.wait_for_selector('.axon-StatusButton[data-status="running"]')
        elapsed, without_a_frame = page.evaluate(_SHOW, count)
        if number >= 0:
            drawn.append(elapsed / 1000)
            longest.append(without_a_frame / 1000)
        if number < chosen.rounds - 1:
            # Another notebook, so that nothing of this one is cached.
            page.evaluate(_OPEN, "train.ipynb")
            page.wait_for_selector("#axon-panel .axon-Empty")
            page.evaluate(
                "window.jupyterapp.commands.execute('axon:toggle-panel').then(() => null)"
            )
    yield Row(
        f"the panel with {count:,} checkpoints, until it is drawn", summarize(drawn), goal=_DRAWN
    )
    yield Row("longest time without a frame meanwhile", summarize(longest))
    page.evaluate(_WATCH)
    fresh = []
    for number in range(chosen.rounds):
        body = {
            "epoch": number,
            "step": number,
            "metrics": metrics(number),
            "run_id": f"{notebook_id}-new",
        }
        began = time.time()
        made: dict[str, Any] = lab.client.say(
            "POST", f"/axon/notebooks/{notebook_id}/checkpoints", body
        )
        seen = page.wait_for_function("id => window.seen[id]", arg=made["id"]).json_value()
        fresh.append(seen / 1000 - began)
    yield Row("a checkpoint posted, until its row is there", summarize(fresh), goal=_FRESH)


def print_table(rows: list[Row]) -> None:
    """Print the result as Markdown."""
    print("| | median | p95 | beside | median | p95 | ratio | 95 % within | goal |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        other = ["", "", "", ""]
        if row.baseline is not None:
            times = [milliseconds(row.baseline.median), milliseconds(row.baseline.p95)]
            other = [*times, f"{row.ratio:.3f}", f"{row.low:.3f} – {row.high:.3f}"]
        goal = "" if row.goal is None else f"{row.goal}{'' if row.is_met else ', missed'}"
        ours = [milliseconds(row.ours.median), milliseconds(row.ours.p95)]
        print(f"| {' | '.join([row.what, *ours, row.beside, *other, goal])} |")


if __name__ == "__main__":
    main()
