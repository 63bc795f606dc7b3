"""Files that are not complete, not archives, or hostile are refused, and change nothing."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.archives import (
    archive_store,
    fill_store,
    load_file,
    read_all_documents,
    unpack_records,
)

from jupyter_axon_notebooks.archive import reader
from jupyter_axon_notebooks.archive.format import FORMAT, MANIFEST_TABLE, RECORDS, TableSummary
from jupyter_axon_notebooks.errors import ArchiveRefused
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION


@pytest.fixture
def archive(file: Path) -> Path:
    source = open_store("memory://")
    fill_store(source)
    archive_store(source, file)
    return file


def check_refused(file: Path, reason: str) -> None:
    store = open_store("memory://")
    with pytest.raises(ArchiveRefused, match=reason):
        load_file(store, file)
    assert not any(read_all_documents(store).values())


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_truncated_file_is_refused_wherever_it_ends(archive: Path, is_zip: bool) -> None:
    if not is_zip:
        unpack_records(archive, manifest=True)
    content = archive.read_bytes()
    for end in range(8, len(content) - 2, max(1, len(content) // 40)):
        archive.write_bytes(content[:end])
        check_refused(archive, "cannot be loaded|is not an archive")


def test_a_damaged_byte_is_found_anywhere(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    for at in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        archive.write_bytes(damaged)
        store = open_store("memory://")
        try:
            report = load_file(store, archive)
        except ArchiveRefused:
            assert not any(read_all_documents(store).values())
        else:  # a byte that means nothing, such as a time
            assert report.problems == []


def test_a_member_before_the_start_of_the_file_is_refused(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    directory = int.from_bytes(content[-6:-2], "little")
    content[-6:-2] = (directory + 9).to_bytes(4, "little")  # moves all members 9 bytes back
    archive.write_bytes(content)
    check_refused(archive, "the position of its member")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("no json", "not JSON"),
        ("[1]", "expected an object of tables"),
        ('{"_default": {}}', "has none of the tables"),
        ("[" * 100_000, "not JSON"),
        ('{\n"axonml_notebooks": {\n"1": {"id": \n}\n}\n', "line 3"),
        ('{\n"axonml_notebooks": {\n}\n}\nmore\n', "something follows the end"),
        ("\x80", "not JSON"),
    ],
)
def test_other_files_are_refused(file: Path, text: str, reason: str) -> None:
    file.write_text(text, encoding="latin-1")
    check_refused(file, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": FORMAT + 1}, "its format is .*: upgrade"),
        ({"schema_version": SCHEMA_VERSION + 1}, "its schema version is .*: upgrade"),
        ({"format": "x"}, "manifest is damaged"),
        ({"tables": 3}, "is damaged"),
        ({"tables": {}}, "should have 0 documents"),
        ({"members": {}}, "is damaged"),
        ({"members": {"records.json": {"size": 3, "sha256": ""}}}, "is damaged"),
    ],
)
def test_an_unusable_manifest_is_refused(
    archive: Path, changes: dict[str, Any], reason: str
) -> None:
    rewrite(archive, lambda name, text: edit_manifest(name, text, changes))
    check_refused(archive, reason)


def edit_manifest(name: str, text: bytes, changes: dict[str, Any]) -> bytes:
    return json.dumps({**json.loads(text), **changes}).encode() if name == "manifest.json" else text


def rewrite(
    path: Path,
    edit: Callable[[str, bytes], bytes | None] = lambda _name, text: text,
    added: dict[str, bytes] | None = None,
) -> None:
    """Write a zip file anew, with its members edited and others added."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            if (edited := edit(name, text)) is not None:
                archive.writestr(name, edited)
        for name, text in (added or {}).items():
            archive.writestr(zipfile.ZipInfo(name), text)


@pytest.mark.parametrize(
    "name",
    ["series/loss.bin", "../../evil.txt", "states/../../evil/model.bin", "states/nb/c/evil.sh"],
)
@pytest.mark.parametrize("listed", [False, True])
def test_a_member_with_another_name_is_refused(
    archive: Path, tmp_path: Path, name: str, listed: bool
) -> None:
    def add(one: str, text: bytes) -> bytes:
        members = json.loads(text)["members"] if one == "manifest.json" else {}
        digest = {"size": 4, "sha256": "0" * 64}
        listing = {"members": {**members, name: digest}} if listed else {}
        return edit_manifest(one, text, listing)

    rewrite(archive, add, {name: b"evil"})
    check_refused(archive, "unexpected member")
    assert sorted(os.listdir(tmp_path)) == [archive.name]


def test_a_changed_member_is_refused(archive: Path) -> None:
    rewrite(archive, lambda name, text: text.replace(b"first", b"f1rst"))
    check_refused(archive, "were changed|is damaged")


def test_two_members_with_one_name_are_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as changed, pytest.warns(UserWarning, match="Duplicate"):
        changed.writestr("records.json", b"{}")
    check_refused(archive, "it has two members records.json")


def test_an_encrypted_archive_is_refused(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1  # the flag in the directory
    archive.write_bytes(content)
    check_refused(archive, "it is encrypted")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_SUSPICIOUS_SIZE", 1000)
    bomb = b"{\n" + b" " * 10_000_000

    def explode(name: str, text: bytes) -> bytes:
        if name == "records.json":
            return bomb
        members = {"records.json": {"size": len(bomb), "sha256": "0" * 64}}
        return edit_manifest(name, text, {"members": members})

    rewrite(archive, explode)
    check_refused(archive, "unpacks to 10,000,002 bytes, over 200 times its size")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    check_refused(tmp_path, "is a folder")


@pytest.mark.parametrize("name", ["records.json", "manifest.json"])
def test_a_missing_member_is_refused(archive: Path, name: str) -> None:
    rewrite(archive, lambda one, text: None if one == name else text)
    check_refused(archive, "missing|has no manifest.json")


def test_state_files_that_unpack_to_more_than_the_file_are_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as changed:
        changed.writestr("states/nb/c/model.bin", bytes(100_000))
    check_refused(archive, "is compressed")


def test_a_manifest_among_the_records_does_not_replace_that_of_the_archive(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        records = json.loads(opened.read(RECORDS))
        manifest = json.loads(opened.read("manifest.json"))
    first = next(iter(records["axonml_notebooks"].values()))
    first["name"] = "f1rst"
    summary = TableSummary()
    for one in records["axonml_notebooks"].values():
        summary.add(one)
    tables = {**manifest["tables"], "axonml_notebooks": summary.to_json()}
    records[MANIFEST_TABLE] = {"1": {**manifest, "tables": tables}}
    text = json.dumps(records).encode()
    member = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    members = {**manifest["members"], RECORDS: member}
    rewrite(
        archive,
        lambda name, old: (
            text if name == RECORDS else edit_manifest(name, old, {"members": members})
        ),
    )
    check_refused(archive, "are damaged, or were changed")


def test_changed_documents_of_an_earlier_version_are_refused(archive: Path) -> None:
    unpack_records(archive, manifest=True)
    archive.write_bytes(archive.read_bytes().replace(b"first", b"f1rst"))
    check_refused(archive, "are damaged, or were changed")
