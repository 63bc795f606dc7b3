"""The Training Runs page."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, expect

from support.page import LabPage

#: The number of runs when all are loaded: "1 run", "10,000 runs", "3 of 10,000 runs".
_COUNT = re.compile(r"^\d[\d,]*( of \d[\d,]*)? runs?$")


class RunsPage:
    """The page, opened in JupyterLab."""

    def __init__(self, lab: LabPage) -> None:
        self.lab = lab
        self.root = lab.page.locator(".axon-Runs")

    def open(self, **args: object) -> RunsPage:
        """Open the page with arguments of its command, and wait until all runs are loaded."""
        self.lab.execute("axon:open-runs", **args)
        expect(self.count).to_have_text(_COUNT)
        return self

    @property
    def grid(self) -> Locator:
        return self.root.locator(".axon-Runs-grid")

    @property
    def rows(self) -> Locator:
        return self.grid.locator(".axon-Grid-row")

    @property
    def count(self) -> Locator:
        return self.root.locator(".axon-Runs-count")

    @property
    def filter(self) -> Locator:
        return self.root.get_by_role("combobox", name="Filter of runs")

    @property
    def details(self) -> Locator:
        return self.root.locator(".axon-RunDetails")

    def row(self, run_id: str) -> Locator:
        return self.grid.locator(f'.axon-Grid-row[data-run-id$="/{run_id}"]')

    def cells(self, column: str) -> Locator:
        return self.rows.locator(f'[data-column="{column}"]')

    def header(self, title: str) -> Locator:
        return self.grid.get_by_role("columnheader", name=re.compile(f"^{re.escape(title)}( |$)"))

    def select(self, *run_ids: str) -> None:
        for run_id in run_ids:
            self.row(run_id).get_by_role("checkbox").check()

    def press_button(self, name: str) -> None:
        """Press a button for the selected runs."""
        toolbar = self.root.get_by_role("toolbar", name="Selected runs")
        toolbar.get_by_role("button", name=name).click()


def add_runs(lab: LabPage, notebook_id: str, *runs: dict[str, Any]) -> list[str]:
    """Start runs; ``metrics`` of a run are those of its only checkpoint. Returns their ids."""
    metrics = [run.pop("metrics", None) for run in runs]
    ids = lab.server.start_runs(notebook_id, *runs)
    lab.server.add_checkpoints(
        notebook_id,
        [
            {"run_id": id, "epoch": 0, "step": 1, "metrics": values}
            for id, values in zip(ids, metrics, strict=True)
            if values is not None
        ],
    )
    return ids
