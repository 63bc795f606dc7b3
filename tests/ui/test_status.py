"""How the training stands, in the notebook's toolbar, with the panel closed."""

from __future__ import annotations

from playwright.sync_api import expect
from support.page import Hands

#: Milliseconds for a kernel to start, import and train a little.
TRAINED = 30_000
TRAINING = """
import pathlib, time
import jupyter_axon_notebooks as axon
axon.checkpoint(None, epoch=0, step=0, metrics={"loss": 1.0})
while not pathlib.Path("go on").exists():
    time.sleep(0.05)
"""


def test_the_button_follows_a_training_and_a_first_save(hands: Hands, path: str) -> None:
    hands.lab.write(path, TRAINING)
    hands.open(path)
    button = hands.page.locator(".axon-StatusButton")
    hands.save()
    expect(button).to_have_attribute("data-status", "draft")
    hands.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    expect(button).to_have_attribute("data-status", "running", timeout=TRAINED)
    (hands.lab.root / "go on").touch()
    expect(button).to_have_attribute("data-status", "completed", timeout=TRAINED)


def test_a_page_in_place_of_an_answer_is_told_and_passes(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    hands.lab.checkpoint(hands.lab.record(path), 0, 1, metrics={"loss": 0.5})
    hands.open(path)
    panel = hands.open_panel()
    expect(hands.rows).to_have_count(1)
    hands.page.route("**/axon/**", lambda route: route.fulfill(body="<h1>Log in</h1>"))
    expect(panel).to_contain_text("Something else answered in its place")
    expect(hands.rows).to_have_count(1)
    hands.page.unroute("**/axon/**")
    expect(panel).not_to_contain_text("Something else answered")
