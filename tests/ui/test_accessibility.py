"""Accessibility and themes of the panel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from support.accessibility import THEMES, find_violations, use_theme
from support.page import LabPage


@pytest.fixture
def full_panel(lab: LabPage, path: str) -> Iterator[LabPage]:
    """A panel with content in every section."""
    notebook_id = lab.server.create_record(path, "lr = 0.1", "train(lr)")
    lab.server.update_record(notebook_id, tags=["paper"], model_id="resnet-18")
    for epoch in range(3):
        lab.server.add_checkpoint(
            notebook_id,
            epoch,
            epoch * 10,
            tags=["first"],
            run_id=f"{notebook_id}-r",
            metrics={"val_loss": 1 / (epoch + 1)},
        )
    lab.server.create_record(path, "lr = 0.01", "train(lr)")
    lab.show(path, checkpoints=3)
    for title in ("Record", "Cells", "Versions"):
        lab.section(title).click()
    lab.expand_reproducibility()
    yield lab
    lab.execute("apputils:change-theme", theme=THEMES[0])


@pytest.mark.parametrize("theme", THEMES)
def test_there_are_no_serious_violations(theme: str, full_panel: LabPage) -> None:
    use_theme(full_panel, theme)
    assert find_violations(full_panel, "#axon-panel") == []
    for index in range(2):
        full_panel.rows.nth(index).get_by_role("checkbox").check()
    assert find_violations(full_panel, "#axon-panel") == []
    full_panel.panel.get_by_role("button", name="Compare", exact=True).click()
    expect(full_panel.page.locator(".axon-Diff")).to_be_visible()
    assert find_violations(full_panel, ".axon-Diff") == []


def test_high_contrast_keeps_what_backgrounds_tell(full_panel: LabPage) -> None:
    """The system's high contrast removes backgrounds, which statuses and curves have."""
    full_panel.page.emulate_media(forced_colors="active")
    try:
        for selector in (".axon-Status-dot", ".axon-Legend-colour"):
            mark = full_panel.panel.locator(selector).first
            colours = mark.evaluate(
                "node => [node, node.closest('section, .lm-Widget')]"
                ".map(one => getComputedStyle(one).backgroundColor)"
            )
            assert colours[0] != colours[1]
        assert find_violations(full_panel, "#axon-panel") == []
    finally:
        full_panel.page.emulate_media(forced_colors="none")
