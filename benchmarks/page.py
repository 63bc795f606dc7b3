"""Measure the Training Runs page with 10,000 runs: first rows, all runs, sorting and filtering.

The baseline of the first rows is as many plain rows of a table, without requests. It
needs what `panel.py` needs.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from panel import Lab, Row, chromium, print_table
from playwright.sync_api import Page
from reporting import Goal, place, plain, written
from stores import open_at
from suites import fill_store
from timing import describe_machine, summarize, temporary_folder

_FIRST, _QUICK = Goal(seconds=0.5), Goal(seconds=0.1)
#: Milliseconds until details of the rows are loaded and settings are stored.
_PAUSE = 700

#: Functions for the page: wait for a condition, and return the milliseconds that an action takes
#: until it is true and drawn.
_TIMER = """() => {
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  window.timed = async (act, isDone) => {
    const began = performance.now();
    act();
    while (!isDone()) {
      await frame();
    }
    await frame();
    return performance.now() - began;
  };
  window.firstRow = () => document.querySelector('.axon-Runs .axon-Grid-row');
  window.counted = () => document.querySelector('.axon-Runs-count')?.textContent ?? '';
}"""
_OPEN = """() => window.timed(
  () => void window.jupyterapp.commands.execute('axon:open-runs'),
  () => window.firstRow() !== null)"""
_COMPLETE = """count => window.timed(
  () => {}, () => window.counted().replace(/\\D/g, '') === String(count))"""
_CLOSE = """() => {
  for (const widget of [...window.jupyterapp.shell.widgets('main')]) {
    widget.dispose();
  }
}"""
#: Click on the title of a column; done when another run is first.
_SORT = """title => {
  const header = [...document.querySelectorAll('.axon-Runs [role=columnheader]')]
    .find(node => node.textContent.startsWith(title));
  const first = window.firstRow().dataset.runId;
  return window.timed(
    () => header.querySelector('button').click(), () => window.firstRow().dataset.runId !== first);
}"""
#: Set the filter by Enter; done when the number of runs is another one.
_FILTER = """text => {
  const input = document.querySelector('.axon-Where input');
  const before = window.counted();
  return window.timed(() => {
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, text);
    input.dispatchEvent(new Event('input', { bubbles: true }));
    input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
  }, () => window.counted() !== before);
}"""
#: Draw plain rows of as many cells as the page does at first.
_PLAIN = """() => {
  const host = document.createElement('div');
  host.style = 'position: fixed; inset: 0; overflow: auto; background: white';
  return window.timed(() => {
    for (let row = 0; row < 40; row++) {
      const line = document.createElement('div');
      line.style = 'display: grid; grid-template-columns: repeat(20, 100px)';
      for (let cell = 0; cell < 20; cell++) {
        const text = `${row}.${cell}`;
        line.append(Object.assign(document.createElement('div'), { textContent: text }));
      }
      host.append(line);
    }
    document.body.append(host);
  }, () => host.isConnected).finally(() => host.remove());
}"""


def main() -> None:
    chosen = options()
    with temporary_folder(chosen.folder) as folder:
        where = describe_machine(
            folder, [f"SQLite {sqlite3.sqlite_version}", f"JupyterLab {version('jupyterlab')}"]
        )
        with Lab.running(folder / "server") as lab, chromium() as browser:
            user_id = lab.client.say("GET", f"/axon/notebooks/{lab.write('train.ipynb')}")[
                "user_id"
            ]
            with open_at(lab.store) as store:
                fill_store(store, chosen.runs, user_id=user_id)
            rows = list(measure(lab.page(browser), chosen))
    lines = [{**plain(row), "is_met": row.is_met} for row in rows]
    if not written({"machine": where, "rows": lines}, json_to=chosen.json):
        print_table(rows)
        print(f"\n{place(where)}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20, help="number of repetitions")
    parser.add_argument("--runs", type=int, default=10_000, metavar="N", help="number of runs")
    parser.add_argument("--folder", type=Path, help="folder for the server's files")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON, in seconds: to a file, or instead of the table",
    )
    return parser.parse_args()


def measure(page: Page, chosen: argparse.Namespace) -> Iterator[Row]:
    """Time what the user waits for."""
    page.evaluate(_TIMER)
    first, complete, bare = [], [], []
    for number in range(-1, chosen.rounds):
        page.evaluate(_CLOSE)
        opened = page.evaluate(_OPEN)
        loaded = opened + page.evaluate(_COMPLETE, chosen.runs)
        drawn = page.evaluate(_PLAIN)
        if number >= 0:  # at first, the code of the page is loaded, too
            first.append(opened / 1000)
            complete.append(loaded / 1000)
            bare.append(drawn / 1000)
    name = f"the page with {chosen.runs:,} runs"
    yield Row(f"{name}, until the first rows are drawn", summarize(first), goal=_FIRST)
    yield Row("as many plain rows, without requests", summarize(bare))
    yield Row(f"{name}, until all are loaded", summarize(complete))

    def timed(script: str, argument: str) -> float:
        page.wait_for_timeout(_PAUSE)
        return float(page.evaluate(script, argument)) / 1000

    sort = [timed(_SORT, "val_loss") for _ in range(chosen.rounds + 1)]
    yield Row("sort by a metric", summarize(sort[1:]), goal=_QUICK)
    texts = ["val_loss < 0.3", "config.lr < 0.01", ""]
    filtered = [timed(_FILTER, texts[number % len(texts)]) for number in range(chosen.rounds + 1)]
    yield Row("set a filter", summarize(filtered[1:]), goal=_QUICK)


if __name__ == "__main__":
    main()
