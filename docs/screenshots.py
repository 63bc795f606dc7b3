"""The README's pictures of the panel, taken anew: `.venv/bin/python docs/screenshots.py`.

Needs what `make test` installs, and Pillow, which makes them small.

The sample training notebook trains in a real JupyterLab: a run that is broken off, one that goes on from it, and one with
another learning rate. Takes a few minutes.
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
sys.path.insert(0, str(ROOT / "tests" / "ui"))

from support.lab import find_chromium, running_lab  # noqa: E402 - from there
from support.page import Hands  # noqa: E402 - from there

SAMPLE = "train_digits.ipynb"
VIEWPORT: ViewportSize = {"width": 1240, "height": 800}
#: Milliseconds in which a training comes to its end on any machine.
LONG = 180_000


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        running_lab(Path(home)) as lab,
        sync_playwright() as playwright,
    ):
        shutil.copy(ROOT / "examples" / SAMPLE, lab.root)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(LONG)
        expect.set_options(timeout=LONG)
        hands = Hands(page, lab)
        hands.arrive(SAMPLE)
        hands.command("filebrowser:toggle-main")
        hands.open_panel()
        train(hands)
        light(hands)
        dark(hands)
        browser.close()


def train(hands: Hands) -> None:
    """Three runs, each in a kernel of its own; the first is stopped in the midst of it."""
    run_all(hands)
    wait_for_epoch(hands, 12)
    hands.command("notebook:interrupt-kernel")
    wait_for_status(hands, "Stopped")
    run_all(hands)
    wait_for_status(hands, "Completed")
    change(hands, "rate=3e-4", "rate=1e-3")
    run_all(hands)
    wait_for_status(hands, "Completed")
    hands.save()


def light(hands: Hands) -> None:
    """The notebook as it is after the training, beside the panel."""
    hands.section("Record").click()
    curves = hands.panel.locator(".axon-Curves")
    curves.get_by_label("Metric").select_option("val_loss")
    curves.get_by_label("log").check()
    scroll_to(hands, "axon.checkpoint(")
    shoot(hands, "panel")


def dark(hands: Hands) -> None:
    """Two checkpoints compared, one of each learning rate, and a cell that has changed since."""
    hands.command("apputils:change-theme", theme="JupyterLab Dark")
    expect(hands.page.locator("body[data-jp-theme-light=false]")).to_be_attached()
    change(hands, "rate=1e-3", "rate=2e-3")
    hands.save()
    expect(hands.panel.locator(".axon-Drift")).to_be_visible()
    hands.filter("epoch:29")
    expect(hands.rows).to_have_count(2)
    for row in hands.rows.all():
        row.get_by_role("checkbox").check()
    hands.filter("")
    hands.command("axon:compare-checkpoints")
    shoot(hands, "changes")


def run_all(hands: Hands) -> None:
    """Begin to train in a new kernel; the command itself ends with the training."""
    hands.page.evaluate(
        """async () => {
          const { commands, shell } = window.jupyterapp;
          await shell.currentWidget.sessionContext.restartKernel();
          void commands.execute('notebook:run-all-cells');
        }"""
    )
    wait_for_status(hands, "Running")


def wait_for_epoch(hands: Hands, epoch: int) -> None:
    hands.page.wait_for_function(
        "rows => Number(document.querySelector('.axon-Grid')?.ariaRowCount) > rows", arg=epoch + 1
    )


def wait_for_status(hands: Hands, word: str) -> None:
    expect(hands.panel.locator(".axon-Header-title")).to_contain_text(word)


def change(hands: Hands, before: str, after: str) -> None:
    """Edit the cell with that text in it."""
    hands.page.evaluate(
        """([before, after]) => {
          for (const { model } of window.jupyterapp.shell.currentWidget.content.widgets) {
            model.sharedModel.setSource(model.sharedModel.getSource().replace(before, after));
          }
        }""",
        [before, after],
    )


def scroll_to(hands: Hands, text: str) -> None:
    hands.page.evaluate(
        """async text => {
          const { content } = window.jupyterapp.shell.currentWidget;
          const index = content.widgets.findIndex(({ model }) => model.sharedModel.getSource().includes(text));
          content.activeCellIndex = index;
          await content.scrollToItem(index, 'start');
        }""",
        text,
    )


def shoot(hands: Hands, name: str) -> None:
    hands.page.mouse.move(0, 0)
    picture = hands.page.screenshot(animations="disabled", caret="hide")
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256).save(ROOT / "docs" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
