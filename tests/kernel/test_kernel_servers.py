"""The notebook and the record of a kernel that a server starts.

JupyterLab and Notebook 7 start their kernels by the sessions API, as is done here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from jupyter_server.auth import passwd
from support.server_kernels import QUERIES, Kernel, python, python_path
from support.server_processes import TOKEN, Server, notebook, write

Servers = Callable[..., Server]
Opened = Callable[..., Kernel]


def renamed(server: Server, kernel: Kernel, old: str, new: str) -> None:
    """Rename a notebook as frontends do: its file, then its session."""
    assert server.rename(old, new).status == 200
    answer = server.ask(
        "PATCH", f"/api/sessions/{kernel.session['id']}", {"path": new, "name": new}
    )
    assert answer.status == 200


def test_a_kernel_finds_its_notebook_and_the_record_that_the_server_has(
    server: Server, opened: Opened
) -> None:
    kernel = opened(server, "deep/train.ipynb")
    recorded = server.sync("deep/train.ipynb")
    answer = kernel.query("summary()")
    assert answer["location"] == {
        "kind": "notebook",
        "source": "session",
        "path": str(server.root / "deep/train.ipynb"),
        "record_id": None,
    }
    assert (answer["record"]["id"], answer["record"]["version_id"]) == (
        recorded["id"],
        recorded["version_id"],
    )
    assert answer["settings"] == {
        "store_url": f"sqlite:///{server.data}/axon_notebooks/axon.db",
        "states_root": f"{server.data}/axon_notebooks/states",
        "user_id": "ada",
        "data_dir": str(server.data),
    }


def test_a_record_that_a_kernel_makes_is_the_servers(server: Server, opened: Opened) -> None:
    kernel = opened(server, "first.ipynb")
    made = kernel.query("record()")
    assert made["user_id"] == "ada"
    assert server.save("first.ipynb", notebook("trained()")).status == 200
    after = server.assert_recorded("first.ipynb")
    assert after["id"] == made["id"]
    assert kernel.query("record()")["version_id"] == after["version_id"] != made["version_id"]


def test_a_rename_in_the_middle_of_training_keeps_the_record(
    server: Server, opened: Opened
) -> None:
    kernel = opened(server, "before.ipynb")
    record = kernel.query("record()")
    renamed(server, kernel, "before.ipynb", "after.ipynb")
    write(server.root / "before.ipynb", notebook("another()"))  # whatever has its old name now
    answer = kernel.query("summary()")
    assert (answer["location"]["path"], answer["location"]["source"]) == (
        str(server.root / "after.ipynb"),
        "session",
    )
    assert (answer["record"]["id"], answer["record"]["name"]) == (record["id"], "after")


def test_a_restarted_kernel_finds_it_again(server: Server, opened: Opened) -> None:
    first = opened(server, "restarted.ipynb")
    answer = first.query("summary()")
    assert server.ask("POST", f"/api/kernels/{first.id}/restart", {}).status == 200
    again = Kernel(server, first.id)
    assert again.query("summary()") == answer
    again.close()


def test_a_script_that_a_notebook_starts_is_a_script(
    server: Server, opened: Opened, tmp_path: Path
) -> None:
    kernel = opened(server, "starts-a-script.ipynb")
    script = tmp_path / "train.py"
    script.write_text(
        "from support.server_kernels import QUERIES\nexec(QUERIES)\nprint(json.dumps(summary()))\n"
    )
    kernel.run(
        "import os, subprocess, sys\n"
        f"out = subprocess.check_output([sys.executable, {str(script)!r}], env=os.environ | "
        f"{{'PYTHONPATH': {python_path()!r}}})"
    )
    answer = kernel.query("json.loads(out)")
    assert (answer["location"]["source"], answer["location"]["path"]) == ("script", str(script))
    assert answer["settings"]["user_id"] == "ada"


def test_a_notebook_that_a_notebook_executes_is_another_one(
    server: Server, opened: Opened, tmp_path: Path
) -> None:
    kernel = opened(server, "outer.ipynb")
    code = f"{QUERIES}\njson.dump(location(), open({str(tmp_path / 'seen')!r}, 'w'))"
    inner = write(tmp_path / "inner.ipynb", notebook(code))
    kernel.run(
        "import nbclient, nbformat\n"
        "from threading import Thread\n"
        f"client = nbclient.NotebookClient(nbformat.read({str(inner)!r}, 4))\n"
        "thread = Thread(target=client.execute); thread.start(); thread.join()"
    )
    assert json.loads((tmp_path / "seen").read_text())["source"] == "nothing"


def test_vs_code_names_a_notebook_that_its_session_does_not(server: Server, opened: Opened) -> None:
    real = write(server.root / "in-vscode.ipynb", notebook("train()"))
    kernel = opened(server, "in-vscode-jvsc-0b7a.ipynb", there=True)
    kernel.run(f"__vsc_ipynb_file__ = {str(real)!r}")
    assert kernel.query("location()") == {
        "kind": "notebook",
        "source": "VS Code",
        "path": str(real),
        "record_id": None,
    }


def test_a_kernel_gets_the_user_who_started_its_session(servers: Servers, opened: Opened) -> None:
    users = """
from jupyter_server.auth import IdentityProvider, User
class Named(IdentityProvider):
    def get_user(self, handler):
        return User(handler.request.headers.get("X-User", "ada"))
c.ServerApp.identity_provider_class = Named
"""
    server = servers(config=_EACH_REQUEST, python=users)
    kernel = opened(
        server, "bobs.ipynb", headers={"X-User": "bob", "Authorization": f"token {TOKEN}"}
    )
    assert kernel.query("find_settings().user_id") == "bob"
    assert server.ask("POST", f"/api/kernels/{kernel.id}/restart", {}).status == 200
    again = Kernel(server, kernel.id)
    assert again.query("find_settings().user_id") == "bob"
    again.close()


_EACH_REQUEST = {
    "AxonNotebooks": {"identity_from_request": True},
    "ServerApp": {"disable_check_xsrf": True},
}


def test_a_store_in_memory_is_reported_as_unreachable(servers: Servers, opened: Opened) -> None:
    server = servers(config={"AxonNotebooks": {"store_url": "memory://"}})
    kernel = opened(server, "forgotten.ipynb")
    assert "in memory" in kernel.query("find_settings().unreachable_reason")
    assert not (server.data / "axon_notebooks" / "kernels.json").exists()


def test_equal_relative_paths_on_two_servers_are_two_notebooks(
    servers: Servers, opened: Opened, tmp_path: Path
) -> None:
    shared = {
        "data": tmp_path / "data",
        "environment": {"JUPYTER_RUNTIME_DIR": str(tmp_path / "a/runtime")},
    }
    one, other = servers("a", **shared), servers("b", **shared)
    (tmp_path / "b/runtime").symlink_to(tmp_path / "a/runtime")
    first, second = opened(one, "train.ipynb"), opened(other, "train.ipynb")
    assert first.query("location()")["path"] == str(one.root / "train.ipynb")
    assert second.query("location()")["path"] == str(other.root / "train.ipynb")
    assert first.query("record()")["id"] != second.query("record()")["id"]


def test_two_kernels_of_one_notebook_have_one_record(
    servers: Servers, opened: Opened, tmp_path: Path
) -> None:
    shared = {"data": tmp_path / "data", "root": tmp_path / "root"}
    one, other = servers("a", **shared), servers("b", **shared)
    ids = {opened(server, "train.ipynb").query("record()")["id"] for server in (one, other)}
    assert len(ids) == 1
    assert [record["id"] for record in one.records()] == list(ids)


def test_a_server_with_a_base_url_is_found(servers: Servers, opened: Opened) -> None:
    server = servers(config={"ServerApp": {"base_url": "/user/ada%20lovelace/"}})
    kernel = opened(server, "train.ipynb", base_url="/user/ada%20lovelace/")
    assert kernel.query("location()")["source"] == "session"


def test_a_server_with_a_password_is_not_needed(servers: Servers, opened: Opened) -> None:
    """Nobody but its user gets in, so a kernel goes by the name that it was started with."""
    server = servers(config={"PasswordIdentityProvider": {"hashed_password": passwd("secret")}})
    kernel = opened(server, "before.ipynb")
    assert (
        kernel.query("location()")["source"] == "session"
    )  # a token as well: it is in the server's file

    config = {"IdentityProvider": {"token": ""}, "ServerApp": {"disable_check_xsrf": True}}
    hashed = {"PasswordIdentityProvider": {"hashed_password": passwd("secret")}}
    closed = servers("closed", config={**config, **hashed}, python=_LETS_TESTS_IN)
    kernel = opened(closed, "before.ipynb")
    answer = kernel.query("summary()")
    assert answer["location"]["source"] == "JPY_SESSION_NAME"
    assert answer["location"]["path"] == str(closed.root / "before.ipynb")
    renamed(closed, kernel, "before.ipynb", "after.ipynb")
    closed.sync("after.ipynb")
    after = kernel.query("record()")
    assert (after["id"], after["name"]) == (answer["record"]["id"], "after")


#: Lets in who knows the tests' token, though the server has none to tell its kernels.
_LETS_TESTS_IN = """
from jupyter_server.auth import User
from jupyter_server.auth.identity import PasswordIdentityProvider
class Both(PasswordIdentityProvider):
    def get_user(self, handler):
        if handler.request.headers.get("Authorization") == "token a-token":
            return User("ada")
        return super().get_user(handler)
c.ServerApp.identity_provider_class = Both
"""


def test_a_notebook_that_is_no_file_is_found_by_its_record(
    servers: Servers, opened: Opened
) -> None:
    server = servers(python=_ELSEWHERE)
    kernel = opened(server, "train.ipynb", there=True)
    assert server.save("train.ipynb", notebook("train()")).status == 201
    place = kernel.query("location()")
    assert (place["path"], place["source"]) == (None, "session")
    assert (
        kernel.query("record()")["id"] == place["record_id"] == server.record("train.ipynb")["id"]
    )


#: A contents manager that keeps its files where nobody would look for them.
_ELSEWHERE = """
import tempfile
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupyter_server.services.contents.manager import ContentsManager
hidden = LargeFileManager(root_dir=tempfile.mkdtemp())
class Elsewhere(ContentsManager):
    def get(self, path, content=True, type=None, format=None, **_):
        return hidden.get(path, content, type, format)
    def save(self, model, path):
        self.run_pre_save_hooks(model=model, path=path)
        return hidden.save(model, path)
    def dir_exists(self, path): return hidden.dir_exists(path)
    def file_exists(self, path): return hidden.file_exists(path)
    def is_hidden(self, path): return False
    def delete_file(self, path): hidden.delete_file(path)
    def rename_file(self, old, new): hidden.rename_file(old, new)
c.ServerApp.contents_manager_class = Elsewhere
"""


def test_a_server_updates_the_records_of_changed_scripts(
    servers: Servers, environment: dict[str, str], tmp_path: Path
) -> None:
    server = servers()
    script = server.root / "train.py"
    script.write_text(
        "from support.server_kernels import QUERIES\nexec(QUERIES)\nprint(json.dumps(record()))\n"
    )
    environment["JUPYTER_DATA_DIR"] = str(server.data)
    record = json.loads(python(script, cwd=tmp_path, **environment).stdout)
    assert record["user_id"] == "ada"  # by the kernel configuration file
    server.stop()
    script.write_text("trained = 'otherwise'\n")
    server.start()
    shown = server.got(f"/notebooks/{record['id']}")
    assert [cell["source"] for cell in shown["cells"]] == ["trained = 'otherwise'\n"]
    assert (shown["name"], shown["path"], shown["metadata"]["language"]) == (
        "train",
        "train.py",
        "python",
    )
    cell = server.axon("POST", f"/notebooks/{record['id']}/cells", {"source": "more"})
    assert (cell.status, script.read_text()) == (409, "trained = 'otherwise'\n")
    assert server.rename("train.py", "training.py").status == 200
    assert server.got(f"/notebooks/{record['id']}")["path"] == "training.py"
    server.stop()
    assert "no up-to-date record" not in server.log
