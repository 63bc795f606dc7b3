"""Errors explain why a login did not use its passfile."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from support.engines import new_url, postgresql

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.passfile import (
    PassLine,
    find_fault,
    find_line,
    find_passfile,
    parse_lines,
    pass_lines,
    read_lines,
)
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


def make_pipe(file: Path, line: str) -> Path:
    os.mkfifo(file, 0o600)
    return file


def make_link(file: Path, line: str) -> Path:
    file.symlink_to(write(file.with_name("loose"), line, 0o604))
    return file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file, line: file, "there is no such file"),
        (lambda file, line: write(file, line) / "below", "there is no such file"),
        (make_folder, "it is a folder"),
        (with_mode(0o644), "other users may read or write it (mode 0644): run `chmod 600 "),
        (with_mode(0o640), "other users may read or write it (mode 0640): run `chmod 600 "),
        (with_mode(0o602), "other users may read or write it (mode 0602): run `chmod 600 "),
        (make_link, "other users may read or write it (mode 0604): run `chmod 600 "),
        (lambda file, line: write(file, ""), "has no line for"),
        (
            lambda file, line: write(file, "#" + line.replace("\n", "\n#")),
            "has no line for",
        ),
        (lambda file, line: write(file, "\x00\xff\n:::\n"), "has no line for"),
        (
            lambda file, line: write(file, line.replace(":axon", ":other")),
            "has no line for",
        ),
        (
            lambda file, line: write(file, line.replace("one", "two")),
            "rejects the password",
        ),
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
    passfile = make(file, pass_lines(url, str(url.username), PASSWORD))
    if named == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(passfile))
    error = open_error(url, passfile if named == "in the URL" or passfile != file else None)
    assert "the database refuses the login" in error
    assert f"the passfile {passfile} (" in error
    assert message in error
    assert PASSWORD not in error


def test_a_pipe_is_refused_before_libpq_waits_for_it(url: URL, tmp_path: Path) -> None:
    error = open_error(url, make_pipe(tmp_path / "pipe", ""))
    assert f"the passfile {tmp_path}/pipe (passfile= in store_url) is not a regular file" in error


@pytest.mark.parametrize("role", ["*", None])
def test_find_line_agrees_with_libpq(url: URL, tmp_path: Path, role: str | None) -> None:
    line = PassLine("*", "*", str(url.database), role or str(url.username), PASSWORD)
    other = PassLine("*", "*", "other", "*", "wrong")
    file = write(
        tmp_path / "pass: file", f"# a comment\n{other}\n{line}\n{line._replace(password='x')}\n"
    )
    assert open_error(url, file) == ""
    assert find_line(url, file) == line
    assert find_fault(file) is None


def test_lines_survive_writing_and_parsing() -> None:
    line = PassLine("::1", "5432", r"a\b", "o:hara", r"p:\\")
    assert parse_lines(f"{line}\n\nno line\n") == [line]


def test_a_wrong_password_in_the_environment_is_named(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "passfile", pass_lines(url, str(url.username), PASSWORD))
    monkeypatch.setenv("PGPASSWORD", "another")
    assert "rejects the password in PGPASSWORD" in open_error(url, file)


def test_a_passfile_of_another_user_is_named(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "passfile", pass_lines(url, str(url.username), PASSWORD))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fault = find_fault(file)
    assert fault is not None
    assert "this user may not read it" in fault.why


def test_passfiles_are_named_by_absolute_path(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"the passfile {tmp_path}/here.pgpass (" in open_error(url, Path("here.pgpass"))
    assert find_passfile(url).path == tmp_path / "home" / ".pgpass"


def test_errors_without_a_password_do_not_mention_passfiles(url: URL) -> None:
    error = open_error(url.set(username="nobody_at_all"), None)
    assert "the database refuses the login; check the user" in error


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = write(tmp_path / "passfile", "h:1:d:r:secret\n" * 100_000)
    with pytest.raises(OSError, match="more than"):
        read_lines(file)
