"""Runs and logged values as data frames."""

from __future__ import annotations

from typing import Any


def test_runs_and_series_are_data_frames(axon: Any) -> None:
    for rate in (0.1, 0.01):
        with axon.start_run({"rate": rate}) as run:
            for step in (0, 5):
                run.log({"loss": rate * step}, step=step)
    runs = axon.runs(sort="number")
    frame = runs.to_pandas()
    assert frame["rate"].tolist() == [0.1, 0.01]
    assert frame["loss"].tolist() == [0.5, 0.05]
    series = runs[0].series("loss").to_pandas()
    assert series.index.name == "step"
    assert series["value"].to_dict() == {0: 0.0, 5: 0.5}
    assert str(series["time"].dt.tz) == "UTC"
    assert abs((series["time"].iloc[0] - runs[0].record.started_at).total_seconds()) < 3600
