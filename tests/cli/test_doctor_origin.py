"""`doctor` and `doctor --rebind`: records that are bound under an origin that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.engines import ON_DISK, new_url
from support.factories import new_checkpoint, new_notebook, new_save

from jupyter_axon_notebooks.records import new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import read_origin

from .conftest import USER, Axon

LOST, OTHER = new_id(), new_id()


@pytest.fixture(params=ON_DISK)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.fixture
def records(url: str) -> Iterator[NotebookRepository]:
    with closing(open_store(url)) as store:
        yield NotebookRepository(store)


@pytest.fixture
def data(jupyter: Path) -> Path:
    return jupyter / "data" / "axon_notebooks"


def record(
    records: NotebookRepository, file: Path, origin: str, *, user: str = USER, days_ago: int = 1
) -> str:
    """A record of a file, which was last recorded some days ago; its id."""
    moment = datetime.now(timezone.utc) - timedelta(days=days_ago)
    new = new_notebook(user_id=user, name=file.stem, path=str(file), origin=origin)
    return records.create(new, new_save(synced_at=moment)).id


def written(folder: Path, name: str) -> Path:
    file = folder.resolve() / name
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    return file


def found(axon: Axon, url: str) -> dict[str, Any]:
    report = axon("doctor", "--json", "--store-url", url).json
    return {problem["code"]: problem["message"] for problem in report["problems"]}


def test_a_lost_origin_is_told_and_its_records_are_bound_again(
    axon: Axon, url: str, records: NotebookRepository, data: Path, tmp_path: Path
) -> None:
    files = [written(tmp_path, f"{name}.ipynb") for name in "ab"]
    ids = [record(records, file, LOST) for file in files]
    gone = record(records, tmp_path / "gone.ipynb", LOST)
    bobs = record(records, files[0], OTHER, user="bob")
    origin = read_origin(data)
    assert found(axon, url)["other-origin"].startswith(
        f"2 notebooks of the origin {LOST} here; the first: {tmp_path.resolve()}"
    )
    ran = axon("doctor", "--rebind", "--json", "--store-url", url)
    assert ran.exit_code == 0, ran.stderr
    assert sorted((one["path"], one["id"], one["from"]) for one in ran.json["rebound"]) == [
        (str(file), id, LOST) for file, id in zip(files, ids, strict=True)
    ]
    assert [records.find_by_path(origin, str(file)).id for file in files] == ids  # type: ignore[union-attr]
    assert [binding.origin for binding in records.bindings.get_many([gone, bobs])] == [LOST, OTHER]
    assert "other-origin" not in found(axon, url)
    assert axon("doctor", "--rebind", "--json", "--store-url", url).json["rebound"] == []


def test_an_origin_that_another_machine_uses_is_taken_only_when_it_is_named(
    axon: Axon, url: str, records: NotebookRepository, data: Path, tmp_path: Path
) -> None:
    origin = read_origin(data)
    file = written(tmp_path, "a.ipynb")
    id = record(records, file, OTHER)
    record(
        records, tmp_path / "elsewhere.ipynb", OTHER, days_ago=-1
    )  # after the present origin was made
    assert "other-origin" not in found(axon, url)
    ran = axon("doctor", "--rebind", "--store-url", url)
    assert f"Skipped: records of 1 notebook under the origin {OTHER}" in ran.stderr
    assert records.find_by_path(origin, str(file)) is None
    ran = axon("doctor", "--rebind", "--origin", OTHER, "--store-url", url)
    assert f"{file}: bound to the record {id}" in ran.stderr
    assert records.find_by_path(origin, str(file)).id == id  # type: ignore[union-attr]


def test_of_two_records_of_a_file_the_first_gets_it_and_both_are_kept_as_they_are(
    axon: Axon, url: str, records: NotebookRepository, data: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, "a.ipynb")
    first = record(records, file, LOST)
    origin = read_origin(data)
    later = record(records, file, origin)
    for id in (first, later):
        records.create_checkpoint(new_checkpoint(id, {"loss": 1.0}, epoch=1))
    ran = axon("doctor", "--rebind", "--store-url", url)
    assert (
        f"{file}: bound to the record {first}; {later}, which was created later, is kept"
        in ran.stderr
    )
    assert records.find_by_path(origin, str(file)).id == first  # type: ignore[union-attr]
    kept = records.find_summary(later)
    assert kept is not None
    assert kept.path is None
    assert kept.metadata.extra["axon"] == {"replaced_by": first}
    assert [len(records.list_checkpoints(id)) for id in (first, later)] == [1, 1]


@pytest.mark.parametrize("content", ["", "garbage"])
def test_a_damaged_origin_is_told_and_left_as_it_is(axon: Axon, data: Path, content: str) -> None:
    data.mkdir()
    (data / "origin").write_text(content)
    report = axon("doctor", "--json").json
    assert [problem["code"] for problem in report["problems"]] == ["origin-damaged"]
    assert report["facts"]["store"]["origin"] is None
    assert (data / "origin").read_text() == content
