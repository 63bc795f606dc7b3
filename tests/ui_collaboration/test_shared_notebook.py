"""A notebook that two users have open, each with the panel."""

from __future__ import annotations

from playwright.sync_api import expect
from support.page import LabPage


def test_both_panels_show_what_one_user_does(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "lr = 0.1")
    checkpoint = lab.server.add_checkpoint(
        notebook_id, 0, 1, metrics={"loss": 0.5}, model_state_base64="bW9kZWw="
    )
    other = LabPage(lab.page.context.new_page(), lab.server)
    for user in (lab, other):
        user.load(path)
    for user in (lab, other):
        user.open_panel()
        expect(user.rows).to_have_count(1)
    other.choose(checkpoint["id"], "Insert Restore Code")
    for user in (lab, other):
        expect(user.page.locator(".jp-Notebook")).to_contain_text("restore(model)")
        user.section("Cells").click()
        expect(user.panel.locator(".axon-Cells").get_by_role("listitem")).to_have_count(2)
