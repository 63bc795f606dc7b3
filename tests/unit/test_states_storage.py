"""State files are read and removed only below the configured roots, in their notebook's folder."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.state_files import list_files, read_state, write_state

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StateError
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.roots import ROOTS, add_known_root, former_roots

INVALID_IDS = ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "a\nb", "\\x", "c:x", ".hidden"]
INVALID_IDS += ["x.", "x ", "x" * 256, "é" * 128, "\ud800", "*"]
VALID_IDS = ["n", "0b4e6d0e-7c2a-4f5e-8c51-3f6d2f8f8a11", "é" * 127, "x" * 255, "a b", "笔记"]
VALID_IDS += ["model.bin", "-rf", "~"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "states"


@pytest.fixture
def storage(root: Path) -> StateStorage:
    return StateStorage(root)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.pt").write_bytes(b"a")
    return tmp_path / "models"


def violation(storage: StateStorage, path: object, notebook: str = "n") -> str:
    """Return the rule that registering ``path`` violates."""
    with pytest.raises(InvalidData) as caught:
        storage.validate_path(str(path), notebook, field="$.optimizer_state_path")
    assert caught.value.path == "$.optimizer_state_path"
    return caught.value.reason


# Ids


@pytest.mark.parametrize("id", INVALID_IDS, ids=ascii)
def test_ids_that_cannot_name_folders_are_refused(
    storage: StateStorage, root: Path, tmp_path: Path, id: str
) -> None:
    write_state(storage)
    before = list_files(tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: storage.open_writer(id, "c", "model"),
        lambda: storage.open(str(root / "n/c/model.bin"), id),
        lambda: storage.validate_path(str(root / "n/c/model.bin"), id),
    ]
    for call in calls:
        with pytest.raises(InvalidData, match=r"\$\.notebook_id: cannot name a folder"):
            call()
    with pytest.raises(InvalidData, match=r"\$\.checkpoint_id: cannot name a folder"):
        storage.open_writer("n", id, "model")
    storage.remove_notebook(id)
    storage.mark_unrecorded(id)
    for notebook_id, checkpoint_id in ((id, "c"), ("n", id), (id, id)):
        storage.mark_unrecorded(notebook_id, checkpoint_id)
        storage.mark_recorded(notebook_id, checkpoint_id)
        storage.remove_checkpoint(notebook_id, checkpoint_id)
        assert storage.stage_removal(notebook_id, checkpoint_id, ["model.bin"]) == []
        storage.remove_staged(notebook_id, checkpoint_id, ["model.bin"])
    assert list_files(tmp_path) == before


@pytest.mark.parametrize("id", VALID_IDS, ids=ascii)
def test_other_ids_name_folders(storage: StateStorage, root: Path, id: str) -> None:
    stored = write_state(storage, b"x", id, id)
    assert storage.validate_path(stored.path, id) == os.path.realpath(stored.path)
    assert read_state(storage, stored.path, id) == b"x"
    storage.remove_checkpoint(id, id)
    assert list_files(root) == []


# Paths that clients register


def test_files_of_the_notebook_and_of_other_roots_are_valid(root: Path, other: Path) -> None:
    storage = StateStorage(root, other_roots=[other])
    own = write_state(storage).path
    assert storage.validate_path(own, "n") == os.path.realpath(own)
    for path in (str(other / "a.pt"), f"{other}/../models//a.pt"):
        assert storage.validate_path(path, "n") == str(other / "a.pt")
    assert read_state(storage, str(other / "a.pt")) == b"a"


@pytest.mark.parametrize("way", ["none", "the parent", "the folder itself", "a link", "the root"])
def test_files_of_another_notebook_are_refused(root: Path, tmp_path: Path, way: str) -> None:
    path = write_state(StateStorage(root), notebook="theirs").path
    (tmp_path / "way").symlink_to(root / "theirs")
    roots = {"the parent": root.parent, "the folder itself": root / "theirs", "the root": root}
    others = [] if way == "none" else [roots.get(way, tmp_path / "way")]
    storage = StateStorage(root, other_roots=others)
    assert "another notebook" in violation(storage, path)
    assert "another notebook" in violation(storage, root / "n/../theirs/c/model.bin")
    assert "another notebook" in violation(storage, tmp_path / "way" / "c" / "model.bin")
    for known in (path, str(tmp_path / "way" / "c" / "model.bin")):
        with pytest.raises(InvalidData):
            storage.open(known, "n")


def test_another_spelling_of_the_root_is_recognized(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that ignores case, a file is in the root though its path is not."""
    storage = StateStorage(tmp_path / "DATA" / "states", other_roots=[tmp_path])
    theirs = write_state(StateStorage(root), notebook="theirs").path
    mine = write_state(StateStorage(root)).path
    real = os.stat

    def ignore_case(path, **options):
        return real(path.replace("DATA", "data") if isinstance(path, str) else path, **options)

    monkeypatch.setattr(os, "stat", ignore_case)
    assert "another notebook" in violation(storage, theirs)
    assert storage.validate_path(mine, "n") == mine


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "absolute"),
        ("model.bin", "absolute"),
        ("./model.bin", "absolute"),
        ("~/model.bin", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("/etc/passwd", "must lie inside"),
        ("/", "must lie inside"),
        ("/dev/zero", "must lie inside"),
        ("{root}", "must lie inside"),
        ("{root}-evil/model.bin", "must lie inside"),
        ("{root}/n/c/../../../../x", "must lie inside"),
        ("{root}/n/c/none.bin", "there is no file"),
        ("{root}/n/none/model.bin", "there is no file"),
        ("{root}/n/c", "regular file"),
        ("{root}/n/c/model.bin/x", "not a folder"),
        ("{root}/n", "no notebook's folder"),
        ("{root}/n/c/.store", "internal file"),
        ("{root}/n/c/" + "x" * 300, "too long"),
        ("{root}/n/c/model.bin\0", "is not a valid path"),
        ("{root}/n/\ud800", "is not a valid path"),
    ],
    ids=ascii,
)
def test_the_violated_rule_is_named(
    storage: StateStorage, root: Path, path: str, rule: str
) -> None:
    write_state(storage)
    assert rule in violation(storage, path.replace("{root}", str(root)))


def test_links_are_followed_before_a_path_is_checked(
    root: Path, other: Path, tmp_path: Path
) -> None:
    storage = StateStorage(root, other_roots=[other])
    write_state(storage)
    (tmp_path / "secret").write_bytes(b"s")
    links = {
        other / "out": tmp_path / "secret",
        root / "n/c/optimizer.bin": Path("/etc/passwd"),
        root / "n/away": Path("/etc"),
        other / "loop": other / "loop",
        other / "in": other / "a.pt",
    }
    for link, target in links.items():
        link.symlink_to(target)
    assert storage.validate_path(str(other / "in"), "n") == str(other / "a.pt")
    for path in (other / "out", root / "n/c/optimizer.bin", root / "n/away/passwd"):
        assert "must lie inside" in violation(storage, path)
    assert "symbolic link" in violation(storage, other / "loop")


def test_a_link_that_replaces_a_valid_path_is_not_followed(
    root: Path, other: Path, tmp_path: Path
) -> None:
    storage = StateStorage(root, other_roots=[other])
    (other / "deep").mkdir()
    (other / "deep" / "b.pt").write_bytes(b"b")
    first, second = (write_state(storage, checkpoint=name).path for name in "cd")
    paths = [first, second, str(other / "a.pt"), str(other / "deep/b.pt")]
    paths = [storage.validate_path(path, "n") for path in paths]
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("model.bin", "a.pt", "b.pt"):
        (outside / name).write_bytes(b"secret")
    for index, path in enumerate(map(Path, paths)):
        path.unlink()
        if index % 2:
            path.parent.rename(tmp_path / f"moved{index}")
            path.parent.symlink_to(outside)
        else:
            path.symlink_to(outside / path.name)
        with pytest.raises(InvalidData, match="symbolic link"):
            storage.open(str(path), "n")


def test_special_files_are_refused_without_blocking(root: Path, other: Path) -> None:
    storage = StateStorage(root, other_roots=[other])
    os.mkfifo(other / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(other)  # the path of a socket is limited to some 100 bytes
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        assert "regular file" in violation(storage, other / "fifo")
        assert "regular file" in violation(storage, other / "socket")


def test_a_missing_state_is_not_found(storage: StateStorage, root: Path) -> None:
    stored = write_state(storage)
    assert storage.can_read(stored.path, "n")
    assert not storage.can_read(stored.path, "other")
    storage.remove_checkpoint("n", "c")
    assert not storage.can_read(stored.path, "n")
    for path in (stored.path, "", str(root / "n/x/y/z")):
        with pytest.raises(NotFound, match="state file"):
            storage.open(path, "n")
    for path, reason in (
        (f"{root}/n/../m/c/model.bin", r"\.\."),
        ("/etc/passwd", "must lie inside"),
        ("/a\0b", "is not a valid path"),
    ):
        with pytest.raises(InvalidData, match=reason):
            storage.open(path, "n")


def test_a_root_behind_a_link_has_two_names(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    storage = StateStorage(tmp_path / "link" / "states")
    stored = write_state(storage, b"x")
    real = str(tmp_path / "disk/states/n/c/model.bin")
    assert stored.path == str(tmp_path / "link/states/n/c/model.bin")
    assert storage.validate_path(stored.path, "n") == real
    assert read_state(storage, stored.path) == read_state(storage, real) == b"x"
    assert storage.owns(stored.path, "n", "c")
    assert storage.owns(real, "n", "c")
    assert "another notebook" in violation(storage, stored.path, "m")
    storage.remove_notebook("n")
    assert list_files(tmp_path / "disk/states") == []


def test_a_notebook_folder_that_is_a_link_is_not_written_to(
    storage: StateStorage, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.mkdir(parents=True)
    (root / "n").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        storage.open_writer("n", "c", "model")
    assert list_files(tmp_path / "elsewhere") == []


# Removing


def test_only_the_given_files_are_removed(storage: StateStorage, root: Path) -> None:
    storage.remove_checkpoint("n", "c")
    storage.remove_notebook("n")
    for notebook, checkpoint in [("n", "c"), ("n", "d"), ("m", "c")]:
        write_state(storage, notebook=notebook, checkpoint=checkpoint)
    storage.remove_checkpoint("n", "x")
    storage.remove_checkpoint("n", "c")
    assert [path.name for path in (root / "n").iterdir()] == ["d"]
    storage.remove_checkpoint("n", "d")
    assert [path.name for path in root.iterdir()] == ["m"]
    storage.remove_notebook("m")
    assert list_files(root) == []


def test_removing_does_not_follow_links(storage: StateStorage, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "c").mkdir(parents=True)
    (outside / "c" / "model.bin").write_bytes(b"x")
    before = list_files(outside)
    write_state(storage)
    (root / "n/c/deep").mkdir()
    for link, target in {
        "n/c/optimizer.bin": outside / "c/model.bin",
        "n/c/deep/link": outside,
        "n/d": outside / "c",
        "m": outside,
    }.items():
        (root / link).symlink_to(target)
    for notebook, checkpoint in (("n", "c"), ("n", "d"), ("m", "c")):
        storage.remove_checkpoint(notebook, checkpoint)
    storage.remove_notebook("m")
    assert list_files(root) == []
    assert list_files(outside) == before


def test_staged_files_are_removed_and_others_stay(storage: StateStorage, root: Path) -> None:
    for part in ("model", "optimizer"):
        write_state(storage, part=part, format="torch")  # type: ignore[arg-type]
    storage.mark_recorded("n", "c")
    staged = storage.stage_removal("n", "c", ["model.pt", "model.bin"])
    assert len(staged) == 1
    assert not (root / "n/c/model.pt").exists()
    write_state(storage, b"new", format="torch")
    storage.remove_staged("n", "c", staged)
    files = [file.name for file in (root / "n/c").glob("[!.]*")]
    assert sorted(files) == ["model.pt", "optimizer.pt"]
    assert (root / "n/c/model.pt").read_bytes() == b"new"
    storage.mark_unrecorded("n", "c")
    storage.remove_staged("n", "c", storage.stage_removal("n", "c", files))
    assert list_files(root) == []
    assert storage.stage_removal("n", "c", ["model.pt"]) == []
    storage.remove_staged("n", "c", ["model.pt"])


# Recorded paths, and roots that were moved


@pytest.fixture
def moved(root: Path, tmp_path: Path) -> StateStorage:
    """Return a storage whose root, with ``n/c`` and ``theirs/c``, was elsewhere before."""
    for notebook in ("n", "theirs"):
        write_state(StateStorage(root), f"of {notebook}".encode(), notebook)
    root.rename(tmp_path / "now")
    return StateStorage(tmp_path / "now")


def test_paths_in_the_notebooks_folder_are_recorded_relative_to_the_root(
    root: Path, tmp_path: Path
) -> None:
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    storage = StateStorage(tmp_path / "link")
    stored = write_state(storage)
    for path in (stored.path, storage.validate_path(stored.path, "n")):
        assert storage.recorded_path(path, "n") == "n/c/model.bin"
    assert storage.recorded_path(f"{root}/n/deep/er/w.pt", "n") == "n/deep/er/w.pt"
    assert storage.full_path("n/c/model.bin") == stored.path
    assert storage.full_path("") == ""
    for outside in ("{}/theirs/c/model.bin", "{}/n/../theirs/w", "/models/w.pt", "{}2/n/w"):
        path = outside.format(root)
        assert storage.recorded_path(path, "n") == storage.full_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "n/c/model.bin",
        "{root}/n/c/model.bin",
        "/home/ada/states/n/c/model.bin",
        r"C:\Users\ada\states\n\c\model.bin",
        "//server/states//n/c/model.bin",
    ],
)
def test_a_file_is_found_below_the_present_root(moved: StateStorage, root: Path, path: str) -> None:
    path = path.format(root=root)
    assert read_state(moved, path) == b"of n"
    assert moved.find_path(path, "n") == os.path.join(moved.root, "n", "c", "model.bin")
    assert moved.owns(path, "n", "c")
    assert not moved.owns(path, "n", "another")


@pytest.mark.parametrize(
    "path",
    [
        "theirs/c/model.bin",
        "n/../theirs/c/model.bin",
        "/home/ada/states/theirs/c/model.bin",
        "/home/ada/n/../theirs/c/model.bin",
        "/home/n/../c/model.bin",
        "../now/theirs/c/model.bin",
    ],
)
def test_no_path_leads_to_another_notebook(moved: StateStorage, path: str) -> None:
    with pytest.raises(InvalidData):
        moved.open(path, "n")
    assert not moved.owns(path, "n", "c")


def test_the_recorded_path_comes_first(moved: StateStorage, root: Path) -> None:
    before = write_state(StateStorage(root), b"of before").path
    both = StateStorage(Path(moved.root), other_roots=[root])
    assert read_state(both, before) == b"of before"
    assert not both.owns(before, "n", "c")
    assert read_state(both, "n/c/model.bin") == b"of n"
    assert read_state(moved, before) == b"of n"  # the former root is not configured


def test_other_roots_are_searched(root: Path, tmp_path: Path) -> None:
    write_state(StateStorage(root))
    write_state(StateStorage(root), notebook="theirs")
    storage = StateStorage(tmp_path / "empty", other_roots=[root])
    for path in ("n/c/model.bin", f"{root}/n/c/model.bin"):
        assert read_state(storage, path) == b"weights"
    assert not storage.owns("n/c/optimizer.bin", "theirs", "c")
    assert not storage.can_read("theirs/c/model.bin", "n")


def test_a_missing_file_is_reported_with_its_present_path(moved: StateStorage) -> None:
    reason = r"now/n/gone/model\.bin \(recorded as /home/n/gone/model\.bin\) not found"
    with pytest.raises(NotFound, match=reason):
        moved.open("/home/n/gone/model.bin", "n")
    with pytest.raises(NotFound, match=r"now/n/gone/model\.bin not found"):
        moved.open("n/gone/model.bin", "n")
    assert "expected an absolute path" in violation(moved, "n/c/model.bin")
    assert "must lie inside" in violation(moved, "/home/ada/states/n/c/model.bin")


# The list of former roots


def test_a_root_is_listed_once_when_it_is_written_to(tmp_path: Path) -> None:
    folder, roots = tmp_path / "axon_notebooks", [tmp_path / "a b", tmp_path / "ä"]
    assert not StateStorage(roots[0], data_folder=folder).can_read("n/c/model.bin", "n")
    assert not folder.exists()
    for root in (*roots, *roots):
        write_state(StateStorage(root, data_folder=folder))
    assert (folder / ROOTS).read_text() == "".join(f"{root}\n" for root in roots)
    assert former_roots(folder) == [str(folder / "states"), *map(str, roots)]
    assert stat.S_IMODE((folder / ROOTS).stat().st_mode) == 0o600


def test_a_state_below_a_former_root_is_found_but_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "axon_notebooks"
    write_state(StateStorage(tmp_path / "old", data_folder=folder))
    storage = StateStorage(tmp_path / "new", data_folder=folder)
    assert storage.find_former_root("n/c/model.bin", "n") == str(tmp_path / "old")
    assert storage.find_former_root("n/c/model.bin", "another") is None
    assert storage.find_former_root("n/gone/model.bin", "n") is None
    assert not storage.can_read("n/c/model.bin", "n")


def test_invalid_lines_of_the_list_are_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "axon_notebooks"
    folder.mkdir()
    (folder / ROOTS).write_bytes(b"relative\n\n/nul\0\n\xff\n/torn")
    add_known_root(folder, "/whole")
    add_known_root(folder, "/two\nlines")
    assert former_roots(folder) == [str(folder / "states"), "/torn", "/whole"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "file as parent", "full"])
def test_an_unusable_list_does_not_prevent_writing(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "axon_notebooks"
    if kind == "file as parent":
        folder.write_text("")
    else:
        folder.mkdir()
    if kind == "folder":
        (folder / ROOTS).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / ROOTS)
    elif kind == "link":
        (folder / ROOTS).symlink_to(tmp_path / "victim")
    elif kind == "full":
        (folder / ROOTS).write_bytes(b"/x\n" * 100_000)
    storage = StateStorage(tmp_path / "root", data_folder=folder)
    assert read_state(storage, write_state(storage).path) == b"weights"
    assert str(folder / "states") in former_roots(folder)
    assert not (tmp_path / "victim").exists()
