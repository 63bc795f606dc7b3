"""One test for each row of the table in :mod:`jupyter_axon_notebooks.sync.identity`."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jupyter_axon_notebooks.repository import Binding
from jupyter_axon_notebooks.sync.identity import (
    ExistingRecord,
    NewRecord,
    ObservedFile,
    file_is_gone,
    identify,
)


@dataclass
class Records:
    """The records that there are; the identity's whole view of the store."""

    bindings: list[Binding] = field(default_factory=list)

    def find_by_path(self, origin: str, path: str) -> Binding | None:
        return next((b for b in self.bindings if (b.origin, b.path) == (origin, path)), None)

    def find_by_embedded_id(self, embedded_id: str) -> list[Binding]:
        return [b for b in self.bindings if embedded_id in (b.id, b.embedded_id)]

    def find_former(self, origin: str, path: str) -> list[Binding]:
        return [b for b in self.bindings if b.origin == origin and path in b.former_paths]


HERE = ObservedFile(
    origin="laptop",
    path="/nb/b.ipynb",
    owner="ada",
    embedded_id="one",
    file={"size": 5, "mtime": 7},
)
ONE = Binding(
    id="one",
    user_id="ada",
    origin="laptop",
    path="/nb/a.ipynb",
    embedded_id="one",
    synced_at="2026-01-01",
)


def decide(
    seen: ObservedFile, *records: Binding, gone: tuple[str, ...] = ()
) -> ExistingRecord | NewRecord:
    return identify(seen, Records(list(records)), lambda path, _seen: path in gone)


def changed(binding: Binding, **fields: object) -> Binding:
    import msgspec

    return msgspec.structs.replace(binding, **fields)


def test_row_1_a_rename_by_jupyter_binds_the_record_to_the_new_path() -> None:
    renamed = changed(ONE, path=HERE.path, former_paths=(ONE.path,))
    assert decide(HERE, renamed) == ExistingRecord("one")


def test_row_2_a_bound_path_decides_whatever_id_is_embedded() -> None:
    bound = changed(ONE, id="two", path=HERE.path, embedded_id="two")
    assert decide(HERE, ONE, bound, gone=("/nb/a.ipynb",)) == ExistingRecord("two")


def test_row_3_a_file_moved_outside_jupyter_keeps_its_record() -> None:
    assert decide(HERE, ONE, gone=("/nb/a.ipynb",)) == ExistingRecord("one", is_moved=True)


def test_row_3_a_restored_file_gets_its_record_back() -> None:
    deleted = changed(ONE, path=None, former_paths=("/nb/b.ipynb",))
    assert decide(HERE, deleted) == ExistingRecord("one", is_moved=True)


def test_row_3_a_moved_copy_keeps_its_record() -> None:
    copy = changed(ONE, id="copy", path="/nb/copy.ipynb")
    assert decide(HERE, ONE, copy, gone=("/nb/copy.ipynb",)) == ExistingRecord(
        "copy", is_moved=True
    )


def test_row_4_a_copy_gets_its_own_record() -> None:
    assert decide(HERE, ONE) == NewRecord(copied_from="one")


def test_row_5_a_clone_of_another_origin_gets_its_own_record() -> None:
    assert decide(
        dataclasses.replace(HERE, origin="desktop"), ONE, gone=("/nb/a.ipynb",)
    ) == NewRecord(copied_from="one")


def test_row_6_a_record_keeps_its_owner() -> None:
    assert decide(dataclasses.replace(HERE, owner="bob"), ONE, gone=("/nb/a.ipynb",)) == NewRecord(
        copied_from="one"
    )


def test_row_7_a_reused_path_gets_a_new_record() -> None:
    other = changed(ONE, id="other", embedded_id="other", path=None, former_paths=("/nb/b.ipynb",))
    assert decide(HERE, ONE, other, gone=("/nb/a.ipynb",)) == NewRecord(copied_from="one")


def test_row_8_the_same_file_by_another_name_is_the_same_notebook(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{}")
    os.link(tmp_path / "a.ipynb", tmp_path / "b.ipynb")
    (tmp_path / "c.ipynb").write_text("{}")
    bound = changed(ONE, path=str(tmp_path / "a.ipynb"))
    linked = dataclasses.replace(HERE, path=str(tmp_path / "b.ipynb"))
    apart = dataclasses.replace(HERE, path=str(tmp_path / "c.ipynb"))
    assert identify(linked, Records([bound])) == ExistingRecord("one", is_moved=True)
    assert identify(apart, Records([bound])) == NewRecord(copied_from="one")


GONE = ("/nb/a.ipynb", "/nb/copy.ipynb", "/old/b.ipynb")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"file": {"size": 5, "mtime": 7}}, ExistingRecord("copy", is_moved=True)),
        ({"path": "/old/b.ipynb"}, ExistingRecord("copy", is_moved=True)),
        ({"synced_at": "2026-02-02"}, NewRecord(copied_from="one")),
    ],
)
def test_row_9_an_ambiguous_file_gets_a_new_record(
    fields: dict[str, object], expected: ExistingRecord | NewRecord
) -> None:
    copy = changed(ONE, **{"id": "copy", "path": "/nb/copy.ipynb", **fields})
    assert decide(HERE, copy, ONE, gone=GONE) == expected


@pytest.mark.parametrize("copied", ["/nb/a-Copy1.ipynb", "/nb/b.ipynb"])
def test_row_12_a_copy_of_a_copy_gets_its_own_record(copied: str) -> None:
    deleted = changed(ONE, path=None, former_paths=("/nb/b.ipynb",))
    copy = changed(ONE, id="copy", path="/nb/experiment.ipynb")
    seen = dataclasses.replace(HERE, path=copied)
    assert decide(seen, deleted, copy) == NewRecord(copied_from="one")


def test_row_12_a_moved_copy_is_not_the_deleted_original() -> None:
    deleted = changed(ONE, path=None, former_paths=("/nb/a.ipynb",))
    copy = changed(ONE, id="copy", path="/nb/copy.ipynb")
    assert decide(HERE, deleted, copy, gone=("/nb/copy.ipynb",)) == ExistingRecord(
        "copy", is_moved=True
    )


def test_row_12_a_restored_file_gets_its_record_beside_a_copy() -> None:
    deleted = changed(ONE, path=None, former_paths=("/nb/b.ipynb",), file={"size": 5, "mtime": 7})
    copy = changed(ONE, id="copy", path="/nb/copy.ipynb")
    assert decide(HERE, deleted, copy) == ExistingRecord("one", is_moved=True)


def test_row_10_a_free_id_is_used() -> None:
    free = dataclasses.replace(HERE, embedded_id="0d1991cb-4986-4fd7-958e-684f68b23ece")
    assert decide(free) == NewRecord(id="0d1991cb-4986-4fd7-958e-684f68b23ece")


def test_row_11_a_file_without_an_id_gets_a_new_record() -> None:
    assert (
        decide(dataclasses.replace(HERE, embedded_id=None), ONE, gone=("/nb/a.ipynb",))
        == NewRecord()
    )


def test_a_file_is_gone_when_nothing_or_only_the_same_file_is_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert file_is_gone(str(tmp_path / "missing"), str(tmp_path / "a"))
    assert file_is_gone(str(tmp_path / "missing"), str(tmp_path / "missing too"))
    assert not file_is_gone(str(tmp_path / "b"), str(tmp_path / "a"))
    assert not file_is_gone(str(tmp_path / "b"), str(tmp_path / "missing"))
