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
    full_panel.panel.get_by_role("button", name="Open the version").last.click()
    expect(full_panel.page.locator(".axon-Version-banner")).to_be_visible()
    assert find_violations(full_panel, ".axon-Version-banner") == []
    assert find_violations(full_panel, ".axon-Version-change") == []


@pytest.mark.parametrize("theme", THEMES)
def test_the_code_in_a_comparison_can_be_read(theme: str, lab: LabPage, path: str) -> None:
    sources = [
        "x = 0\n" * 10 + f'# {word}\nfor x in range({number}):\n    print(f"{word}", None, True)\n'
        f"class {word}: pass\ndef f(a: int = {number}): return a.b"
        for word, number in (("one", 1), ("two", 2))
    ]
    lab.server.create_record(path, sources[0])
    lab.server.create_record(path, sources[1])
    lab.show(path)
    lab.section("Versions").click()
    lab.panel.locator(".axon-Versions").get_by_role("button", name="Compare").last.click()
    use_theme(lab, theme)
    try:
        diff = lab.page.locator(".axon-Diff:visible")
        expect(diff.locator("[data-kind=added] .tok-comment")).to_have_text("# two")
        expect(diff.locator("[data-kind=removed] .tok-comment")).to_have_text("# one")
        assert find_violations(lab, ".axon-Diff") == []
    finally:
        lab.execute("apputils:change-theme", theme=THEMES[0])


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
