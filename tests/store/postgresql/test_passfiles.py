"""Why a login does not use the passfile that was meant for it."""

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
    parse_lines,
    pass_lines,
    passfile_of,
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
    """The same, for a process whose environment names no password."""
    for variable in ("PGPASSFILE", "PGPASSWORD", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return guarded


def written(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def opened(url: URL, passfile: Path | None) -> str:
    """What is said of the attempt to open the store; "" where it opens."""
    if passfile is not None:
        url = url.update_query_dict({"passfile": str(passfile)})
    try:
        Store(url.render_as_string()).close()
    except StoreError as error:
        return str(error)
    return ""


def read_by_others(mode: int) -> Callable[[Path, str], Path]:
    return lambda file, line: written(file, line, mode)


def in_a_folder(file: Path, line: str) -> Path:
    file.mkdir()
    return file


def a_pipe(file: Path, line: str) -> Path:
    os.mkfifo(file, 0o600)
    return file


def a_link_to_a_loose_one(file: Path, line: str) -> Path:
    file.symlink_to(written(file.with_name("loose"), line, 0o604))
    return file


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda file, line: file, "there is no such file"),
        (lambda file, line: written(file, line) / "below", "there is no such file"),
        (in_a_folder, "it is a folder"),
        (read_by_others(0o644), "other users may read or write it (mode 0644): run `chmod 600 "),
        (read_by_others(0o640), "other users may read or write it (mode 0640): run `chmod 600 "),
        (read_by_others(0o602), "other users may read or write it (mode 0602): run `chmod 600 "),
        (a_link_to_a_loose_one, "other users may read or write it (mode 0604): run `chmod 600 "),
        (lambda file, line: written(file, ""), "has no line that fits"),
        (
            lambda file, line: written(file, "#" + line.replace("\n", "\n#")),
            "has no line that fits",
        ),
        (lambda file, line: written(file, "\x00\xff\n:::\n"), "has no line that fits"),
        (
            lambda file, line: written(file, line.replace(":axon", ":other")),
            "has no line that fits",
        ),
        (
            lambda file, line: written(file, line.replace("one", "two")),
            "rejects the password",
        ),
    ],
)
@pytest.mark.parametrize("named", ["in the URL", "PGPASSFILE", "~/.pgpass"])
def test_a_passfile_that_does_not_help_is_named_with_the_reason(
    url: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[Path, str], Path],
    said: str,
    named: str,
) -> None:
    file = tmp_path / "home" / ".pgpass"
    passfile = made(file, pass_lines(url, str(url.username), PASSWORD))
    if named == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(passfile))
    told = opened(url, passfile if named == "in the URL" or passfile != file else None)
    assert "the database refuses the login" in told
    assert f"the passfile {passfile} (" in told
    assert said in told
    assert PASSWORD not in told


def test_a_passfile_that_is_a_pipe_is_refused_before_anybody_waits_for_it(
    url: URL, tmp_path: Path
) -> None:
    told = opened(url, a_pipe(tmp_path / "pipe", ""))
    assert f"the passfile {tmp_path}/pipe (passfile= in store_url) is not a regular file" in told


@pytest.mark.parametrize("role", ["*", None])
def test_what_lets_in_is_found_as_the_client_finds_it(
    url: URL, tmp_path: Path, role: str | None
) -> None:
    line = PassLine("*", "*", str(url.database), role or str(url.username), PASSWORD)
    other = PassLine("*", "*", "other", "*", "wrong")
    file = written(
        tmp_path / "pass: file", f"# a comment\n{other}\n{line}\n{line._replace(password='x')}\n"
    )
    assert opened(url, file) == ""
    assert find_line(url, file) == line
    assert find_fault(file) is None


def test_lines_come_back_as_they_were_written() -> None:
    line = PassLine("::1", "5432", r"a\b", "o:hara", r"p:\\")
    assert parse_lines(f"{line}\n\nno line\n") == [line]


def test_a_password_in_the_environment_is_what_was_refused(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "passfile", pass_lines(url, str(url.username), PASSWORD))
    monkeypatch.setenv("PGPASSWORD", "another")
    assert "rejects the password in PGPASSWORD" in opened(url, file)


def test_a_passfile_of_somebody_else_is_told_apart(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "passfile", pass_lines(url, str(url.username), PASSWORD))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for anybody but root
    fault = find_fault(file)
    assert fault is not None
    assert "this user may not read it" in fault.why


def test_the_file_that_is_looked_at_is_named_absolutely(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"the passfile {tmp_path}/here.pgpass (" in opened(url, Path("here.pgpass"))
    assert passfile_of(url).path == tmp_path / "home" / ".pgpass"


def test_a_login_that_no_password_would_help_says_nothing_of_passfiles(url: URL) -> None:
    told = opened(url.set(username="nobody_at_all"), None)
    assert "the database refuses the login; check the user" in told


def test_a_file_that_is_too_large_for_a_passfile_is_refused_whole(tmp_path: Path) -> None:
    file = written(tmp_path / "passfile", "h:1:d:r:secret\n" * 100_000)
    with pytest.raises(OSError, match="more than"):  # not: half of its lines
        read_lines(file)
