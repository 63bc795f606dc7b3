"""Take the screenshots of the panel: `.venv/bin/python docs/screenshots.py`.

Needs the requirements of `make test`, and Pillow to reduce the size of the images.

The sample notebook trains in JupyterLab: a run that is interrupted, a run that resumes from it, and
a run with another learning rate. A second notebook searches learning rates and widths. Takes a few
minutes.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.lab import find_chromium, run_lab  # noqa: E402 - after the path
from support.page import LabPage  # noqa: E402 - after the path

SAMPLE = "train_digits.ipynb"
#: A search with a run for each learning rate and width.
SEARCH = """\
import numpy as np
import jupyter_axon_notebooks as axon

data = np.random.default_rng(7)
x = data.normal(size=(400, 8))
y = np.sin(x).sum(axis=1, keepdims=True)
for width in (8, 32, 128):
    for lr in (0.003, 0.01, 0.03, 0.1):
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(8, width)) / 3, rng.normal(size=(width, 1)) / width**0.5
        with axon.start_run({"lr": lr, "width": width}, group="search"):
            for step in range(300):
                batch = rng.integers(300, size=64)
                hidden = np.tanh(x[batch] @ first)
                error = hidden @ second - y[batch]
                back = (error @ second.T) * (1 - hidden**2)
                second -= lr * hidden.T @ error / 64
                first -= lr * x[batch].T @ back / 64
                axon.log({"loss": np.mean(error**2)}, step=step)
                if step % 100 == 99:
                    held_out = np.tanh(x[300:] @ first) @ second - y[300:]
                    metrics = {"val_loss": np.mean(held_out**2)}
                    state = {"first": first, "second": second}
                    axon.checkpoint(state, epoch=step // 100, step=step, metrics=metrics)
"""
VIEWPORT: ViewportSize = {"width": 1240, "height": 800}
#: Milliseconds for a training on a slow machine.
TIMEOUT = 400_000


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        run_lab(Path(home)) as server,
        sync_playwright() as playwright,
    ):
        shutil.copy(ROOT / "examples" / SAMPLE, server.root)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(TIMEOUT)
        expect.set_options(timeout=TIMEOUT)
        lab = LabPage(page, server)
        lab.load(SAMPLE)
        lab.execute("filebrowser:toggle-main")
        lab.open_panel()
        train(lab)
        take_panel(lab)
        take_comparison(lab)
        take_runs(lab)
        browser.close()


def train(lab: LabPage) -> None:
    """Train three runs, each in a kernel of its own; interrupt the first."""
    replace(lab, "epochs, batches = 30, 50", "epochs, batches = 15, 50")
    run_all(lab, wait=False)
    wait_for_epoch(lab, 5)
    lab.execute("notebook:interrupt-kernel")
    wait_for_status(lab, "Stopped")
    run_all(lab)
    wait_for_status(lab, "Completed")
    replace(lab, "rate = 3e-4", "rate = 1e-3")
    run_all(lab)
    wait_for_status(lab, "Completed")
    lab.save()


def take_panel(lab: LabPage) -> None:
    """Take the notebook after the training beside the panel."""
    lab.panel.locator(".axon-Curves").get_by_label("log").check()
    scroll_to(lab, "axon.checkpoint(")
    take_screenshot(lab, "panel")


def take_comparison(lab: LabPage) -> None:
    """Take the comparison of two checkpoints with different learning rates, and a changed cell."""
    lab.execute("apputils:change-theme", theme="JupyterLab Dark")
    expect(lab.page.locator("body[data-jp-theme-light=false]")).to_be_attached()
    replace(lab, "rate = 1e-3", "rate = 2e-3")
    lab.save()
    expect(lab.panel.locator(".axon-Reproducibility")).to_be_visible()
    lab.filter("epoch:14")
    expect(lab.rows).to_have_count(2)
    for row in lab.rows.all():
        row.get_by_role("checkbox").check()
    lab.filter("")
    lab.execute("axon:compare-checkpoints")
    take_screenshot(lab, "changes")


def take_runs(lab: LabPage) -> None:
    """Take the page of all runs after a search, with the curves of four of them."""
    lab.execute("apputils:change-theme", theme="JupyterLab Light")
    expect(lab.page.locator("body[data-jp-theme-light=true]")).to_be_attached()
    lab.server.write_notebook("search.ipynb", SEARCH)
    lab.open("search.ipynb", has_own_kernel=True)
    run_all(lab)
    wait_for_status(lab, "Completed")
    lab.save()
    lab.page.set_viewport_size({"width": 1440, "height": 900})
    lab.execute("axon:toggle-panel")
    lab.execute("axon:open-runs")
    page = lab.page.locator(".axon-Runs")
    boxes = page.get_by_role("grid").get_by_role("row").get_by_role("checkbox")
    for index in range(1, 5):
        boxes.nth(index).check()
    expect(page.locator("canvas").first).to_be_visible()
    lab.page.wait_for_timeout(4_000)  # the last values of a run are stored after its end
    take_screenshot(lab, "runs")


def run_all(lab: LabPage, *, wait: bool = True) -> None:
    """Train in a new kernel, and wait for the end."""
    lab.page.evaluate(
        """async wait => {
          const { commands, shell } = window.jupyterapp;
          await shell.currentWidget.sessionContext.restartKernel();
          const end = commands.execute('notebook:run-all-cells');
          await (wait && end);
        }""",
        wait,
    )


def wait_for_epoch(lab: LabPage, epoch: int) -> None:
    lab.page.wait_for_function(
        "rows => Number(document.querySelector('.axon-Grid')?.ariaRowCount) > rows", arg=epoch + 1
    )


def wait_for_status(lab: LabPage, status: str) -> None:
    expect(lab.panel.locator(".axon-Header-title")).to_contain_text(status)


def replace(lab: LabPage, before: str, after: str) -> None:
    """Replace a text in the cells of the notebook."""
    lab.page.evaluate(
        """([before, after]) => {
          for (const { model } of window.jupyterapp.shell.currentWidget.content.widgets) {
            model.sharedModel.setSource(model.sharedModel.getSource().replace(before, after));
          }
        }""",
        [before, after],
    )


def scroll_to(lab: LabPage, text: str) -> None:
    lab.page.evaluate(
        """async text => {
          const { content } = window.jupyterapp.shell.currentWidget;
          const index = content.widgets.findIndex(
            ({ model }) => model.sharedModel.getSource().includes(text)
          );
          content.activeCellIndex = index;
          await content.scrollToItem(index, 'start');
        }""",
        text,
    )


def take_screenshot(lab: LabPage, name: str) -> None:
    lab.page.mouse.move(0, 0)
    picture = lab.page.screenshot(animations="disabled", caret="hide")
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256).save(
            ROOT / "docs" / "images" / f"{name}.png", optimize=True
        )


if __name__ == "__main__":
    main()
