"""Tests of saves: they are answered as without the extension, and recorded."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nbformat
import pytest
from support.server_processes import Answer, Server, notebook

Both = Callable[[Callable[[Server], Answer]], Answer]


def without_ids() -> dict[str, Any]:
    content = notebook("a", "b")
    for cell in content["cells"]:
        del cell["id"]
    return content


def with_one_id_twice() -> dict[str, Any]:
    content = notebook("a", "b")
    for cell in content["cells"]:
        cell["id"] = "the-same"
    return content


def of_version_3() -> dict[str, Any]:
    old = nbformat.v3.new_notebook(
        worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("a")])]
    )
    return json.loads(nbformat.v3.writes_json(old))  # type: ignore[no-any-return]


def trusted() -> dict[str, Any]:
    content = notebook("a", orig_nbformat=4, signature="x")
    content["cells"][0]["metadata"] = {"trusted": True, "tags": ["kept"]}
    return content


def with_outputs() -> dict[str, Any]:
    content = notebook("print(1)")
    content["cells"][0] |= {
        "execution_count": 1,
        "outputs": [nbformat.v4.new_output("stream", text="1\n")],
    }
    return content


NOTEBOOKS = {
    "a plain notebook": notebook(
        "import torch", "1 + 1", kernelspec={"name": "python3", "display_name": "P"}
    ),
    "an empty one": notebook(),
    "one with outputs": with_outputs(),
    "one with transient metadata": trusted(),
    "one without cell ids": without_ids(),
    "one with a cell id twice": with_one_id_twice(),
    "one of 4.4": {**without_ids(), "nbformat_minor": 4},
    "one of a minor version to come": {**notebook("a"), "nbformat_minor": 99},
    "one of version 3": of_version_3(),
}


@pytest.mark.parametrize("content", NOTEBOOKS.values(), ids=NOTEBOOKS.keys())
def test_saves_are_answered_as_without_the_extension_and_recorded(
    both: Both, server: Server, folder: str, content: dict[str, Any]
) -> None:
    for _ in range(2):
        assert both(lambda s: s.save(f"{folder}/a.ipynb", content)).status < 300
        server.assert_recorded(f"{folder}/a.ipynb")


REFUSED = {
    "no content": {"type": "notebook"},
    "no type": {"content": notebook()},
    "a text as content": {"type": "notebook", "content": "text"},
    "a code cell without outputs": {
        "type": "notebook",
        "content": {
            **notebook(),
            "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "source": ""}],
        },
    },
    "no cells": {"type": "notebook", "content": {"nbformat": 4, "nbformat_minor": 5}},
    "half a surrogate pair": {"type": "notebook", "content": notebook("'\ud800'")},
    "another type": {"type": "picture", "content": notebook()},
}


@pytest.mark.parametrize("model", REFUSED.values(), ids=REFUSED.keys())
def test_refused_saves_are_answered_as_without_the_extension(
    both: Both, server: Server, folder: str, model: Any
) -> None:
    path = f"{folder}/a.ipynb"
    both(lambda s: s.save(path, notebook("kept")))
    before = server.assert_recorded(path)
    both(lambda s: s.contents("PUT", path, model))
    if (server.root / path).read_text():
        assert server.assert_recorded(path)["version_id"] == before["version_id"]


def test_the_last_of_many_saves_is_recorded(both: Both, server: Server, folder: str) -> None:
    path = f"{folder}/a.ipynb"

    def storm(on: Server) -> Answer:
        connection = on.connect()
        try:
            for number in range(100):
                answer = on.save(path, notebook(*map(str, range(number))), connection=connection)
                assert answer.status == (201 if number == 0 else 200)
        finally:
            connection.close()
        return answer

    both(storm)
    assert server.assert_recorded(path)["cell_count"] == 99


def test_concurrent_saves_of_many_files_are_recorded(server: Server, folder: str) -> None:
    paths = [f"{folder}/{number}.ipynb" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            saved = pool.map(lambda path: server.save(path, notebook(path)), paths)
            assert {answer.status for answer in saved} <= {200, 201}
    for path in paths:
        server.assert_recorded(path)
    assert len({server.record(path)["id"] for path in paths}) == len(paths)


def test_a_chunked_upload_is_recorded_when_complete(
    both: Both, server: Server, folder: str
) -> None:
    path = f"{folder}/a.ipynb"
    text = json.dumps(notebook("a" * 5000, "b" * 5000)).encode()
    for number, start in ((1, 0), (2, 4000), (-1, 8000)):
        end = len(text) if number == -1 else start + 4000
        chunk = base64.b64encode(text[start:end]).decode()
        model = {"type": "file", "format": "base64", "content": chunk, "chunk": number}
        both(lambda s, model=model: s.contents("PUT", path, model))  # type: ignore[misc]
        if number != -1:
            assert server.got(f"/notebooks?path={path}") == []
    assert server.assert_recorded(path)["cell_count"] == 2


def test_a_notebook_uploaded_as_a_file_is_recorded(both: Both, server: Server, folder: str) -> None:
    path = f"{folder}/a.ipynb"
    model = {"type": "file", "format": "text", "content": json.dumps(notebook("a"))}
    both(lambda s: s.contents("PUT", path, model))
    server.assert_recorded(path)


def test_a_notebook_of_50_megabytes_is_recorded(server: Server, folder: str) -> None:
    path = f"{folder}/large.ipynb"
    content = notebook("plot()")
    picture = base64.b64encode(bytes(12_500_000)).decode()
    data = {"data": {"image/png": picture}, "metadata": {}, "output_type": "display_data"}
    content["cells"][0]["outputs"] = [data, data, data]
    assert server.save(path, content).status == 201
    server.assert_recorded(path)


def test_a_restored_jupyter_checkpoint_is_recorded(both: Both, server: Server, folder: str) -> None:
    path = f"{folder}/a.ipynb"
    both(lambda s: s.save(path, notebook("kept")))
    both(lambda s: s.contents("POST", f"{path}/checkpoints"))
    both(lambda s: s.save(path, notebook("lost")))
    server.assert_recorded(path)
    both(lambda s: s.contents("POST", f"{path}/checkpoints/checkpoint"))
    server.assert_recorded(path)
    assert server.file(path).cells[0].source == "kept"
