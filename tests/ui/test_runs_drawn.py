"""Which runs are drawn, in which colours."""

from __future__ import annotations

from playwright.sync_api import Locator, expect
from support.page import Hands, eventually

#: The places of the colours that are on the canvas, of the first three.
_COLOURS = """canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) {
    seen.add(data.slice(i, i + 3).join());
  }
  const style = getComputedStyle(canvas);
  return [0, 1, 2].filter(place => {
    const probe = document.createElement('i');
    probe.style.color = style.getPropertyValue(`--axon-run-${place}`);
    document.body.append(probe);
    const colour = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).join();
    probe.remove();
    return seen.has(colour);
  });
}"""


def legend(hands: Hands) -> Locator:
    return hands.panel.locator(".axon-Legend tbody tr")


def test_curves_have_the_colours_of_the_legend_after_a_hidden_run_is_gone(
    hands: Hands, path: str
) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    made = [
        hands.lab.checkpoint(
            notebook, epoch, epoch, run_id=f"{notebook}-{run}", metrics={"loss": run + epoch}
        )
        for run in range(3)
        for epoch in range(4)
    ]
    hands.open(path)
    canvas = hands.open_panel().locator(".axon-Curves canvas")
    expect(legend(hands)).to_have_count(3)
    legend(hands).first.get_by_role("checkbox").uncheck()
    expect(legend(hands).first.get_by_role("cell").first).to_have_text("")
    eventually(lambda: canvas.evaluate(_COLOURS), [1, 2])
    for checkpoint in made[:4]:
        hands.lab.rest("DELETE", f"/notebooks/{notebook}/checkpoints/{checkpoint['id']}")
    expect(legend(hands)).to_have_count(2)
    expect(legend(hands).first).to_have_attribute("data-run", "0")
    eventually(lambda: canvas.evaluate(_COLOURS), [0, 1])


def test_of_many_runs_the_newest_the_best_and_those_that_run_are_drawn_until_all_are_asked_for(
    hands: Hands, path: str
) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    hands.lab.checkpoints(
        notebook,
        (
            {
                "run_id": f"{notebook}-{run}",
                "epoch": epoch,
                "step": epoch,
                "metrics": {"loss": 0 if run == 7 else 1 / (1 + epoch)},
            }
            for run in range(200)
            for epoch in range(3)
        ),
    )
    hands.open(path)
    panel = hands.open_panel()
    expect(panel).to_contain_text("600 checkpoints")
    expect(legend(hands)).to_have_count(31)
    expect(legend(hands).first).to_contain_text("run 8")
    expect(legend(hands).first).to_contain_text("best")
    panel.get_by_role("button", name="Show all 200 runs").click()
    expect(legend(hands)).to_have_count(200)
    panel.get_by_role("button", name="Show the newest runs").click()
    expect(legend(hands)).to_have_count(31)
