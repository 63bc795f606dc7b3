"""What everybody can read and reach: themes, contrast, roles, labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from support.page import Hands, eventually

AXE = Path(__file__).parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
THEMES = ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]

#: What axe finds wrong in the part of the page that a selector names, contrast of texts (4.5 : 1) included. The field of
#: the filter is JupyterLab's own component, whose hidden button has no name.
_FIND_FAULTS = """async selector => {
  const context = { include: [[selector]], exclude: [['.jp-FilterBox']] };
  const { violations } = await axe.run(context, { resultTypes: ['violations'] });
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
}"""
_COLOURS = """panel => {
  const style = getComputedStyle(panel);
  return [style.color, style.backgroundColor, style.getPropertyValue('--axon-run-0')];
}"""


@pytest.fixture
def full(hands: Hands, path: str) -> Iterator[Hands]:
    """A panel with something in every section."""
    hands.lab.write(path, "lr = 0.1", "train(lr)")
    notebook = hands.lab.record(path)
    hands.lab.rest("PUT", f"/notebooks/{notebook}", {"tags": ["paper"], "model_id": "resnet-18"})
    for epoch in range(3):
        given: dict[str, Any] = {
            "run_id": f"{notebook}-r",
            "metrics": {"val_loss": 1 / (epoch + 1)},
        }
        hands.lab.checkpoint(notebook, epoch, epoch * 10, tags=["first"], **given)
    hands.lab.write(path, "lr = 0.01", "train(lr)")
    hands.lab.record(path)
    hands.open(path)
    hands.open_panel()
    for title in ("Cells", "Versions"):
        hands.section(title).click()
    expect(hands.rows).to_have_count(3)
    expect(hands.panel.locator(".axon-Drift")).to_be_visible()
    yield hands
    hands.command("apputils:change-theme", theme=THEMES[0])


def use(hands: Hands, theme: str) -> None:
    hands.command("apputils:change-theme", theme=theme)
    expect(hands.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)


def faults(hands: Hands, selector: str) -> list[str]:
    if not hands.page.evaluate("'axe' in window"):
        hands.page.add_script_tag(path=AXE)
    found: list[str] = hands.page.evaluate(_FIND_FAULTS, selector)
    return found


def drawing(hands: Hands) -> str:
    """The picture of the curves."""
    picture: str = hands.panel.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    return picture


@pytest.mark.parametrize("theme", THEMES)
def test_no_serious_fault_for_those_who_see_little_or_nothing(theme: str, full: Hands) -> None:
    use(full, theme)
    assert faults(full, "#axon-panel") == []
    full.rows.first.get_by_role("checkbox").check()
    full.rows.nth(1).get_by_role("checkbox").check()
    assert faults(full, "#axon-panel") == []
    full.panel.get_by_role("button", name="Compare", exact=True).click()
    expect(full.page.locator(".axon-Diff")).to_be_visible()
    assert faults(full, ".axon-Diff") == []


def test_colours_of_panel_and_curves_are_the_themes(full: Hands) -> None:
    seen = []
    drawn = {""}
    for theme in THEMES:
        use(full, theme)
        eventually(lambda: drawing(full) in drawn, False)
        drawn.add(drawing(full))
        seen.append(full.panel.evaluate(_COLOURS))
    text, background, curve = (list(column) for column in zip(*seen, strict=True))
    assert text[0] != text[1]
    assert background[0] != background[1]
    assert curve[0] != curve[1]
