"""Errors explain why a login did not use its passfile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from support.engines import new_url, postgresql

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.passfile import pass_lines
from jupyter_axon_notebooks.store.postgresql.roles import Role

PASSWORD = r"right: \one"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> URL:
    """The URL of a role that needs a password, without a passfile."""
    url = make_url(new_url("postgresql", tmp_path_factory.mktemp("guarded"), empty=False))
    role = f"passes_{url.database}"
    with closing(Store(url.render_as_string())) as store:
        store.separate_users([Role(role, "ada")], lambda _: {role: PASSWORD})
    hba = postgresql().folder / "data/pg_hba.conf"
    hba.write_text(f"local all {role} scram-sha-256\n" + hba.read_text())
    with closing(postgresql().connect()) as owner:
        owner.execute("SELECT pg_reload_conf()")
    return url.set(username=role)


@pytest.fixture
def url(guarded: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> URL:
    """The same, in an environment without passwords."""
    for variable in ("PGPASSFILE", "PGPASSWORD", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return guarded


def write(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def open_error(url: URL, passfile: Path | None) -> str:
    """Return the error of opening the store, or an empty string."""
    if passfile is not None:
        url = url.update_query_dict({"passfile": str(passfile)})
    try:
        Store(url.render_as_string()).close()
    except StoreError as error:
        return str(error)
    return ""


def with_mode(mode: int) -> Callable[[Path, str], Path]:
    return lambda file, line: write(file, line, mode)


def make_folder(file: Path, line: str) -> Path:
    file.mkdir()
    return file


def make_link(file: Path, line: str) -> Path:
    file.symlink_to(write(file.with_name("loose"), line, 0o604))
    return file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file, line: file, "it cannot be accessed (No such file or directory)"),
        (make_folder, "it is not a regular file"),
        (with_mode(0o644), "other users may read or write it (mode 0644): run `chmod 600 "),
        (make_link, "other users may read or write it (mode 0604): run `chmod 600 "),
        (lambda file, line: write(file, "\x00\xff\n:::\n"), "has no line for"),
        (lambda file, line: write(file, line.replace(":axon", ":other")), "has no line for"),
        (lambda file, line: write(file, line.replace("one", "two")), "rejects the password"),
    ],
)
@pytest.mark.parametrize("named", ["in the URL", "PGPASSFILE", "~/.pgpass"])
def test_an_ignored_passfile_is_named_with_the_reason(
    url: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, str], Path],
    message: str,
    named: str,
) -> None:
    file = tmp_path / "home" / ".pgpass"
    lines = pass_lines(url, str(url.username), PASSWORD)
    passfile = make(file, "".join(f"{line}\n" for line in lines))
    if named == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(passfile))
    error = open_error(url, passfile if named == "in the URL" or passfile != file else None)
    assert "the database refuses the login" in error
    assert f"the passfile {passfile} (" in error
    assert message in error
    assert PASSWORD not in error


def test_errors_without_a_password_do_not_mention_passfiles(url: URL) -> None:
    error = open_error(url.set(username="nobody_at_all"), None)
    assert "the database refuses the login; check the user" in error
