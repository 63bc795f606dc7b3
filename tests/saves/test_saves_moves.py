"""Tests of the records of notebooks that are renamed, deleted, moved, copied and cloned."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from support.server_processes import Answer, Server, notebook

Both = Callable[[Callable[[Server], Answer]], Answer]


def saved(server: Server, path: str, *sources: str) -> Any:
    """Save a notebook and return its record."""
    assert server.save(path, notebook(*sources)).status in (200, 201)
    return server.assert_recorded(path)


def with_checkpoint(server: Server, record: Any) -> Any:
    """Create a checkpoint of a record."""
    answer = server.axon(
        "POST", f"/notebooks/{record['id']}/checkpoints", {"epoch": 1, "step": 0, "metrics": {}}
    )
    assert answer.status == 201
    return answer.json


def git(folder: Path, *command: str) -> None:
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a",
    }
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, env=environment)


def test_a_renamed_notebook_keeps_its_record(both: Both, server: Server, folder: str) -> None:
    old, new = f"{folder}/a.ipynb", f"{folder}/b.ipynb"
    both(lambda s: s.save(old, notebook("1")))
    record = server.record(old)
    both(lambda s: s.rename(old, new))
    both(lambda s: s.save(new, notebook("2")))
    after = server.assert_recorded(new)
    assert (after["id"], after["name"]) == (record["id"], "b")
    assert server.got(f"/notebooks?path={old}") == []


def test_the_files_of_a_renamed_folder_keep_their_records(
    both: Both, server: Server, folder: str
) -> None:
    (server.root / folder / "one" / "deep").mkdir(parents=True)
    names = ["a.ipynb", "deep/b.ipynb"]
    before = {name: saved(server, f"{folder}/one/{name}", name)["id"] for name in names}
    beside = saved(server, f"{folder}/one.ipynb", "beside")
    assert server.rename(f"{folder}/one", f"{folder}/two").status == 200
    assert {name: server.assert_recorded(f"{folder}/two/{name}")["id"] for name in names} == before
    assert server.record(f"{folder}/one.ipynb")["id"] == beside["id"]
    server.save(f"{folder}/two/deep/b.ipynb", notebook("again"))
    assert server.assert_recorded(f"{folder}/two/deep/b.ipynb")["id"] == before["deep/b.ipynb"]


def test_a_new_notebook_with_a_deleted_name_gets_a_new_record(
    both: Both, server: Server, folder: str
) -> None:
    path = f"{folder}/a.ipynb"
    both(lambda s: s.save(path, notebook("1")))
    old = server.record(path)
    checkpoint = with_checkpoint(server, old)
    both(lambda s: s.contents("DELETE", path))
    both(lambda s: s.save(path, notebook("2")))
    new = server.assert_recorded(path)
    kept = server.got(f"/notebooks/{old['id']}")
    assert new["id"] != old["id"]
    assert "path" not in kept
    assert "deleted_at" in kept["metadata"]["extra"]["axon"]
    assert [c["id"] for c in server.got(f"/notebooks/{old['id']}/checkpoints")] == [
        checkpoint["id"]
    ]
    assert server.embedded(path) == new["id"]


def test_concurrent_renames_and_saves_are_recorded(server: Server, folder: str) -> None:
    old, new = f"{folder}/a.ipynb", f"{folder}/b.ipynb"
    for number in range(10):
        saved(server, old, f"before {number}")
        with ThreadPoolExecutor(2) as pool:
            saving = pool.submit(server.save, old, notebook(f"saved {number}"))
            renaming = pool.submit(server.rename, old, new)
            statuses = (saving.result().status, renaming.result().status)
        assert statuses[1] == 200
        assert server.assert_recorded(new)["name"] == "b"
        if (server.root / old).exists():
            server.assert_recorded(old)
        server.contents("DELETE", new)
        server.contents("DELETE", old)


def test_a_notebook_moved_in_a_shell_and_back_keeps_its_record(server: Server, folder: str) -> None:
    old, new = f"{folder}/a.ipynb", f"{folder}/sub/b.ipynb"
    record = saved(server, old, "1")
    checkpoint = with_checkpoint(server, record)
    (server.root / folder / "sub").mkdir()
    shutil.move(server.root / old, server.root / new)
    assert server.sync(new)["id"] == record["id"]
    assert server.assert_recorded(new)["name"] == "b"
    shutil.move(server.root / new, server.root / old)
    server.save(old, notebook("back"))
    assert server.assert_recorded(old)["id"] == record["id"]
    assert server.got(f"/notebooks/{record['id']}/checkpoints")[0]["id"] == checkpoint["id"]


def test_a_copy_gets_its_own_record_and_edits_stay_apart(server: Server, folder: str) -> None:
    path, copy = f"{folder}/a.ipynb", f"{folder}/copy.ipynb"
    original = saved(server, path, "1")
    shutil.copy(server.root / path, server.root / copy)
    content = server.contents("GET", copy).json["content"]
    content["cells"][0]["source"] = "edited"
    assert server.save(copy, content).status == 200
    copied = server.assert_recorded(copy)
    assert copied["id"] != original["id"]
    assert copied["metadata"]["extra"]["axon"]["copied_from"] == original["id"]
    assert server.assert_recorded(path)["version_id"] == original["version_id"]


def test_a_switched_branch_keeps_the_record(server: Server, folder: str) -> None:
    path, root = f"{folder}/a.ipynb", server.root / folder
    record = saved(server, path, "main")
    git(root, "init", "--initial-branch=main")
    git(root, "add", "a.ipynb")
    git(root, "commit", "--message=main")
    git(root, "checkout", "-b", "other")
    saved(server, path, "other", "branch")
    shutil.copy(root / "a.ipynb", root / "c.ipynb")
    git(root, "add", "a.ipynb")
    git(root, "commit", "--message=other")
    for branch, cells in (("main", 1), ("other", 2), ("main", 1)):
        git(root, "checkout", branch)
        now = server.assert_recorded(path)
        assert (now["id"], now["cell_count"]) == (record["id"], cells)
    assert server.sync(f"{folder}/c.ipynb")["id"] != record["id"]


def test_a_clone_gets_its_own_records(servers: Callable[..., Server], tmp_path: Path) -> None:
    store = {
        "AxonNotebooks": {"store_url": f"sqlite:///{tmp_path}/shared/axon.db", "user_id": "ada"}
    }
    here = servers("here", config=store)
    record = saved(here, "a.ipynb", "1")
    git(here.root, "init", "--initial-branch=main")
    git(here.root, "add", "a.ipynb")
    git(here.root, "commit", "--message=first")
    git(tmp_path, "clone", str(here.root), str(tmp_path / "clone"))
    there = servers("there", config=store, root=tmp_path / "clone")
    cloned = there.sync("a.ipynb")
    assert cloned["id"] != record["id"]
    assert cloned["metadata"]["extra"]["axon"]["copied_from"] == record["id"]
    there.save("a.ipynb", notebook("changed"))
    there.assert_recorded("a.ipynb")
    assert here.assert_recorded("a.ipynb")["version_id"] == record["version_id"]


def test_a_copy_of_a_copy_gets_its_own_record(server: Server, folder: str) -> None:
    original = saved(server, f"{folder}/orig.ipynb", "1")
    assert server.contents("POST", folder, {"copy_from": f"{folder}/orig.ipynb"}).status == 201
    copy = saved(server, f"{folder}/orig-Copy1.ipynb", "1", "2")
    assert server.contents("DELETE", f"{folder}/orig.ipynb").status == 204
    assert (
        server.contents("POST", folder, {"copy_from": f"{folder}/orig-Copy1.ipynb"}).status == 201
    )
    [again] = {path.name for path in (server.root / folder).glob("*.ipynb")} - {"orig-Copy1.ipynb"}
    record = server.assert_recorded(f"{folder}/{again}")
    assert record["id"] not in (original["id"], copy["id"])
    assert record["metadata"]["extra"]["axon"]["copied_from"] == original["id"]
