"""The notebook and the record of a kernel that a server starts.

JupyterLab and Notebook 7 start their kernels through the sessions API, as these tests do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from jupyter_server.auth import passwd
from support.server_kernels import (
    QUERIES,
    SessionKernel,
    python,
    python_path,
    querying_script,
    rename_notebook,
    restarted_kernel,
)
from support.server_processes import TOKEN, Server, notebook, write

StartServer = Callable[..., Server]
StartSession = Callable[..., SessionKernel]


def test_a_kernel_and_its_server_have_the_same_notebook_record_and_settings(
    server: Server, start_session: StartSession
) -> None:
    kernel = start_session(server, "deep/train.ipynb")
    recorded = server.sync("deep/train.ipynb")
    summary = kernel.evaluate("summary()")
    assert summary["location"] == {
        "kind": "notebook",
        "source": "session",
        "path": str(server.root / "deep/train.ipynb"),
        "record_id": None,
    }
    for name in ("id", "version_id"):
        assert summary["record"][name] == recorded[name]
    assert summary["settings"] == {
        "store_url": f"sqlite:///{server.data}/axon_notebooks/axon.db",
        "states_root": f"{server.data}/axon_notebooks/states",
        "user_id": "ada",
        "data_dir": str(server.data),
    }


def test_a_save_updates_the_record_that_a_kernel_created(
    server: Server, start_session: StartSession
) -> None:
    kernel = start_session(server, "first.ipynb")
    created = kernel.evaluate("record()")
    assert created["user_id"] == "ada"
    assert server.save("first.ipynb", notebook("trained()")).status == 200
    saved = server.assert_recorded("first.ipynb")
    assert saved["id"] == created["id"]
    assert kernel.evaluate("record()")["version_id"] == saved["version_id"] != created["version_id"]


def test_a_renamed_notebook_keeps_its_record(server: Server, start_session: StartSession) -> None:
    kernel = start_session(server, "before.ipynb")
    record = kernel.evaluate("record()")
    rename_notebook(server, kernel, "before.ipynb", "after.ipynb")
    write(server.root / "before.ipynb", notebook("another()"))  # another notebook, same name
    summary = kernel.evaluate("summary()")
    assert summary["location"]["path"] == str(server.root / "after.ipynb")
    assert summary["location"]["source"] == "session"
    assert (summary["record"]["id"], summary["record"]["name"]) == (record["id"], "after")


def test_a_restarted_kernel_has_the_same_notebook(
    server: Server, start_session: StartSession
) -> None:
    kernel = start_session(server, "restarted.ipynb")
    summary = kernel.evaluate("summary()")
    with restarted_kernel(server, kernel) as restarted:
        assert restarted.evaluate("summary()") == summary


def test_a_script_that_a_notebook_starts_has_its_own_record(
    server: Server, start_session: StartSession, tmp_path: Path
) -> None:
    kernel = start_session(server, "starts-a-script.ipynb")
    script = tmp_path / "train.py"
    script.write_text(querying_script())
    kernel.execute(
        "import os, subprocess, sys\n"
        f"environment = os.environ | {{'PYTHONPATH': {python_path()!r}}}\n"
        f"out = subprocess.check_output([sys.executable, {str(script)!r}], env=environment)"
    )
    summary = kernel.evaluate("json.loads(out)")
    assert (summary["location"]["source"], summary["location"]["path"]) == ("script", str(script))
    assert summary["settings"]["user_id"] == "ada"


def test_a_notebook_that_nbclient_executes_in_a_kernel_is_not_the_notebook_of_the_kernel(
    server: Server, start_session: StartSession, tmp_path: Path
) -> None:
    kernel = start_session(server, "outer.ipynb")
    output = tmp_path / "location.json"
    code = f"{QUERIES}\njson.dump(location(), open({str(output)!r}, 'w'))"
    inner = write(tmp_path / "inner.ipynb", notebook(code))
    kernel.execute(
        "import nbclient, nbformat\n"
        "from threading import Thread\n"
        f"client = nbclient.NotebookClient(nbformat.read({str(inner)!r}, 4))\n"
        "thread = Thread(target=client.execute); thread.start(); thread.join()"
    )
    assert json.loads(output.read_text())["source"] == "nothing"


def test_the_path_that_vs_code_sets_is_used(server: Server, start_session: StartSession) -> None:
    path = write(server.root / "in-vscode.ipynb", notebook("train()"))
    kernel = start_session(server, "in-vscode-jvsc-0b7a.ipynb", create=False)
    kernel.execute(f"__vsc_ipynb_file__ = {str(path)!r}")
    assert kernel.evaluate("location()") == {
        "kind": "notebook",
        "source": "VS Code",
        "path": str(path),
        "record_id": None,
    }


IDENTITY_OF_REQUEST = """
from jupyter_server.auth import IdentityProvider, User
class HeaderIdentityProvider(IdentityProvider):
    def get_user(self, handler):
        return User(handler.request.headers.get("X-User", "ada"))
c.ServerApp.identity_provider_class = HeaderIdentityProvider
c.ServerApp.disable_check_xsrf = True
c.AxonNotebooks.identity_from_request = True
"""


def test_a_kernel_records_for_the_user_who_started_its_session(
    start_server: StartServer, start_session: StartSession
) -> None:
    server = start_server(python=IDENTITY_OF_REQUEST)
    headers = {"X-User": "bob", "Authorization": f"token {TOKEN}"}
    kernel = start_session(server, "bobs.ipynb", headers=headers)
    assert kernel.evaluate("find_settings().user_id") == "bob"
    with restarted_kernel(server, kernel) as restarted:
        assert restarted.evaluate("find_settings().user_id") == "bob"


def test_a_store_in_memory_is_reported_as_unreachable(
    start_server: StartServer, start_session: StartSession
) -> None:
    server = start_server(config={"AxonNotebooks": {"store_url": "memory://"}})
    kernel = start_session(server, "forgotten.ipynb")
    assert "in memory" in kernel.evaluate("find_settings().unreachable_reason")
    assert not (server.data / "axon_notebooks" / "kernels.json").exists()


def test_equal_relative_paths_on_two_servers_are_two_notebooks(
    start_server: StartServer, start_session: StartSession, tmp_path: Path
) -> None:
    runtime = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "a/runtime")}
    servers = [
        start_server(name, data=tmp_path / "data", environment=runtime) for name in ("a", "b")
    ]
    (tmp_path / "b/runtime").symlink_to(tmp_path / "a/runtime")
    kernels = [start_session(server, "train.ipynb") for server in servers]
    for server, kernel in zip(servers, kernels, strict=True):
        assert kernel.evaluate("location()")["path"] == str(server.root / "train.ipynb")
    first, second = (kernel.evaluate("record()")["id"] for kernel in kernels)
    assert first != second


def test_kernels_of_two_servers_share_the_record_of_a_file(
    start_server: StartServer, start_session: StartSession, tmp_path: Path
) -> None:
    folders = {"data": tmp_path / "data", "root": tmp_path / "root"}
    first, second = (start_server(name, **folders) for name in ("a", "b"))
    ids = {
        start_session(server, "train.ipynb").evaluate("record()")["id"]
        for server in (first, second)
    }
    assert [record["id"] for record in first.records()] == list(ids)


def test_a_server_with_a_base_url_is_found(
    start_server: StartServer, start_session: StartSession
) -> None:
    base_url = "/user/ada%20lovelace/"
    server = start_server(config={"ServerApp": {"base_url": base_url}})
    kernel = start_session(server, "train.ipynb", base_url=base_url)
    assert kernel.evaluate("location()")["source"] == "session"


PASSWORD = {"PasswordIdentityProvider": {"hashed_password": passwd("secret")}}


def test_a_server_with_a_password_is_asked_with_its_token(
    start_server: StartServer, start_session: StartSession
) -> None:
    kernel = start_session(start_server(config=PASSWORD), "train.ipynb")
    assert kernel.evaluate("location()")["source"] == "session"


#: Accepts the token of the tests, which the server does not write into its file.
HIDDEN_TOKEN = """
from jupyter_server.auth import User
from jupyter_server.auth.identity import PasswordIdentityProvider
class HiddenTokenProvider(PasswordIdentityProvider):
    def get_user(self, handler):
        if handler.request.headers.get("Authorization") == "token a-token":
            return User("ada")
        return super().get_user(handler)
c.ServerApp.identity_provider_class = HiddenTokenProvider
"""


def test_a_kernel_that_cannot_ask_its_server_uses_the_name_of_its_session(
    start_server: StartServer, start_session: StartSession
) -> None:
    config = {"IdentityProvider": {"token": ""}, "ServerApp": {"disable_check_xsrf": True}}
    server = start_server(config={**config, **PASSWORD}, python=HIDDEN_TOKEN)
    kernel = start_session(server, "before.ipynb")
    summary = kernel.evaluate("summary()")
    assert summary["location"]["source"] == "JPY_SESSION_NAME"
    assert summary["location"]["path"] == str(server.root / "before.ipynb")
    rename_notebook(server, kernel, "before.ipynb", "after.ipynb")
    server.sync("after.ipynb")
    record = kernel.evaluate("record()")
    assert (record["id"], record["name"]) == (summary["record"]["id"], "after")


#: A contents manager whose notebooks are not files below the root of the server.
OTHER_CONTENTS = """
import tempfile
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupyter_server.services.contents.manager import ContentsManager
hidden = LargeFileManager(root_dir=tempfile.mkdtemp())
class OtherContentsManager(ContentsManager):
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
c.ServerApp.contents_manager_class = OtherContentsManager
"""


def test_a_notebook_that_is_not_a_file_is_found_by_its_record(
    start_server: StartServer, start_session: StartSession
) -> None:
    server = start_server(python=OTHER_CONTENTS)
    kernel = start_session(server, "train.ipynb", create=False)
    assert server.save("train.ipynb", notebook("train()")).status == 201
    location = kernel.evaluate("location()")
    assert (location["path"], location["source"]) == (None, "session")
    assert location["record_id"] == server.record("train.ipynb")["id"]
    assert location["record_id"] == kernel.evaluate("record()")["id"]


def test_a_server_updates_the_records_of_changed_scripts(
    start_server: StartServer, environment: dict[str, str], tmp_path: Path
) -> None:
    server = start_server()
    script = server.root / "train.py"
    script.write_text(querying_script("record()"))
    environment["JUPYTER_DATA_DIR"] = str(server.data)
    record = json.loads(python(script, cwd=tmp_path, **environment).stdout)
    assert record["user_id"] == "ada"  # from the kernel configuration file
    url = f"/notebooks/{record['id']}"
    server.stop()
    script.write_text("changed = True\n")
    server.start()
    updated = server.got(url)
    assert [cell["source"] for cell in updated["cells"]] == ["changed = True\n"]
    assert (updated["name"], updated["path"]) == ("train", "train.py")
    assert updated["metadata"]["language"] == "python"
    cell = server.axon("POST", f"{url}/cells", {"source": "more"})
    assert (cell.status, script.read_text()) == (409, "changed = True\n")
    assert server.rename("train.py", "training.py").status == 200
    assert server.got(url)["path"] == "training.py"
    server.stop()
    assert "no up-to-date record" not in server.log
