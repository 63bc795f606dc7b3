"""Spool files keep every row that was appended, whatever happens to the process."""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.spool import Row, SpoolReader, SpoolWriter, list_spools

HEADER = {"run": "r", "path": "/caf\udce9.ipynb"}


@pytest.fixture
def writer(tmp_path):
    writer = SpoolWriter(tmp_path / "spool", HEADER)
    yield writer
    writer.close()


def read_all(path, offset=0, limit=10**6):
    with SpoolReader(path) as reader:
        return reader.read(offset, limit)


def test_rows_are_read_back_while_the_file_grows(writer):
    first, second = Row(0, 1.5, {"loss": 0.1}), Row(2**53 - 1, 2.5, {"a.b/c": -math.inf})
    writer.append(first)
    with SpoolReader(writer.path) as reader:
        assert reader.header == HEADER
        assert reader.id == writer.id
        rows, offset = reader.read(0, 10)
        assert rows == [first]
        assert reader.read(offset, 10) == ([], offset)
        writer.append(second)
        assert reader.read(offset, 10) == ([second], writer.size)
        rows, offset = reader.read(0, 1)
        assert rows == [first]


def test_values_that_are_not_numbers_stay(writer):
    writer.append(Row(0, 0.0, {"x": math.nan}))
    [row], _ = read_all(writer.path)
    assert math.isnan(row.metrics["x"])


@given(st.data())
def test_a_cut_off_or_damaged_end_is_ignored(tmp_path_factory, data):
    writer = SpoolWriter(tmp_path_factory.mktemp("spool"), HEADER)
    ends = [writer.size]
    for step in range(5):
        writer.append(Row(step, float(step), {"loss": step / 3}))
        ends.append(writer.size)
    writer.close()
    content = writer.path.read_bytes()
    cut = data.draw(st.integers(ends[0], len(content)))
    junk = data.draw(st.binary(max_size=20))
    writer.path.write_bytes(content[:cut] + junk)
    rows, offset = read_all(writer.path)
    complete = sum(end <= cut for end in ends) - 1
    assert [row.step for row in rows][:complete] == list(range(complete))
    assert offset >= ends[complete]


@pytest.mark.parametrize("content", [b"", b"junk", b"\0" * 100, b"\x05\0\0\0\0\0\0\0hello"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.spool"
    path.write_bytes(content)
    with pytest.raises(InvalidData):
        SpoolReader(path)


def test_a_file_is_abandoned_when_its_process_is_gone(writer):
    with SpoolReader(writer.path) as reader:
        assert not reader.is_abandoned()
        writer.close()
        assert reader.is_abandoned()


def test_files_are_listed_oldest_first(tmp_path):
    writers = [SpoolWriter(tmp_path, HEADER) for _ in range(3)]
    for age, writer in enumerate(writers):
        os.utime(writer.path, (100 - age, 100 - age))
    (tmp_path / "other").touch()
    assert list_spools(tmp_path) == [writer.path for writer in reversed(writers)]
    assert list_spools(tmp_path / "missing") == []
    for writer in writers:
        writer.close(remove=True)
    assert list_spools(tmp_path) == []


def test_a_row_that_is_too_large_is_refused(writer):
    with pytest.raises(InvalidData, match="at most"):
        writer.append(Row(0, 0.0, {f"{number:020}": 1.0 for number in range(600_000)}))
    writer.append(Row(1, 0.0, {"a": 1.0}))
    rows, _ = read_all(writer.path)
    assert [row.step for row in rows] == [1]


def test_long_rows_are_read_a_few_at_a_time(writer):
    metrics = {f"{number:020}": 1.0 for number in range(100_000)}
    for step in range(10):
        writer.append(Row(step, 0.0, metrics))
    with SpoolReader(writer.path) as reader:
        rows, offset = reader.read(0, 100)
        assert 1 < len(rows) < 10
        rows += reader.read(offset, 100)[0]
        assert [row.step for row in rows] == list(range(10))


KILLED = """
import os, signal, sys
from pathlib import Path
from jupyter_axon_notebooks.spool import Row, SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), {})
step = 0
while True:
    writer.append(Row(step, 0.0, {"loss": 0.5}))
    print(step, flush=True)
    step += 1
"""


def test_every_acknowledged_row_survives_a_kill(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) > 500:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = int((process.stdout.read().split() or [line])[-1])
    [path] = list_spools(tmp_path)
    rows, _ = read_all(path)
    assert [row.step for row in rows] == list(range(len(rows)))
    assert len(rows) > acknowledged


def test_a_row_whose_writing_was_interrupted_is_kept(writer, monkeypatch):
    write = os.write

    def write_and_interrupt(fd, data):
        write(fd, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.append(Row(0, 0.0, {"loss": 1.0}))
    with SpoolReader(writer.path) as reader:
        rows, offset = reader.read(0, 10)
        writer.append(Row(1, 0.0, {"loss": 2.0}))
        rows += reader.read(offset, 10)[0]
    assert [row.step for row in rows] == [0, 1]


def test_a_full_disk_leaves_the_file_as_it_was(writer):
    writer.append(Row(0, 0.0, {"loss": 1.0}))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size + 10, limits[1]))
        for _ in range(3):
            with pytest.raises(OSError) as raised:  # noqa: PT011 - either errno
                writer.append(Row(1, 0.0, {"loss": 2.0}))
            assert raised.value.errno in (errno.ENOSPC, errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    writer.append(Row(2, 0.0, {"loss": 3.0}))
    rows, _ = read_all(writer.path)
    assert [row.step for row in rows] == [0, 2]
