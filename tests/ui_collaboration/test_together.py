"""Two people in one notebook, each with the panel open."""

from __future__ import annotations

import base64

from playwright.sync_api import expect
from support.page import Hands


def test_what_one_does_both_panels_show(hands: Hands, path: str) -> None:
    hands.lab.write(path, "lr = 0.1")
    notebook = hands.lab.record(path)
    state = base64.b64encode(b"weights").decode()
    made = hands.lab.checkpoint(notebook, 0, 1, metrics={"loss": 0.5}, model_state_base64=state)
    other = Hands(hands.page.context.new_page(), hands.lab)
    hands.arrive(path)
    other.arrive(path)
    for one in (hands, other):
        one.open_panel()
        expect(one.rows).to_have_count(1)
    other.row(made["id"]).click(button="right")
    other.page.locator(".lm-Menu-item", has_text="Insert Restore Code").click()
    for one in (hands, other):
        expect(one.page.locator(".jp-Notebook")).to_contain_text("restore(model)")
        expect(one.panel.locator(".axon-Header")).to_contain_text("2 cells", timeout=20_000)
