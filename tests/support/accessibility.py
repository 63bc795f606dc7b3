"""Accessibility of a page: axe, and the themes of JupyterLab."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from support.page import LabPage

AXE = Path(__file__).parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
THEMES = ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]

#: Serious violations in an element, including the contrast of texts. The filter is a component of
#: JupyterLab, whose hidden button has no name. The body of the page has no height, since all of it is
#: positioned; axe would take its content to be hidden.
_FIND_VIOLATIONS = """async selector => {
  document.body.style.height = '100vh';
  const context = { include: [[selector]], exclude: [['.jp-FilterBox']] };
  const { violations } = await axe.run(context, { resultTypes: ['violations'] });
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
}"""


def use_theme(lab: LabPage, theme: str) -> None:
    lab.execute("apputils:change-theme", theme=theme)
    expect(lab.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
    # axe does not check the contrast of what the splash screen covers.
    expect(lab.page.locator("#jupyterlab-splash")).to_have_count(0)


def find_violations(lab: LabPage, selector: str) -> list[str]:
    """Return the serious violations in an element."""
    if not lab.page.evaluate("'axe' in window"):
        lab.page.add_script_tag(path=AXE)
    found: list[str] = lab.page.evaluate(_FIND_VIOLATIONS, selector)
    return found
