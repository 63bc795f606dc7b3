"""Notebooks of a given size that resemble real training notebooks and change as these do."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

#: The size of an image in a small and in a large notebook, in bytes.
_IMAGES = 6_000, 90_000
_SMALL = 200_000


class TrainingNotebook:
    """The bodies of successive requests that save a notebook during training.

    About two thirds are images; the rest is logs, tables, plots as JSON, code and prose. From save
    to save one cell prints another line, another shows a new image, and the execution counts go on.
    """

    def __init__(self, size: int) -> None:
        self._random = random.Random(size)
        self._image_size = _IMAGES[size > _SMALL]
        cells: list[dict[str, Any]] = []
        self._encoded: list[bytes] = []
        left = size
        while left > 0 or len(cells) < 8:
            for cell in self._section(len(cells)):
                cells.append(cell)
                self._encoded.append(_json(cell))
                left -= len(self._encoded[-1])
        self._log = next(i for i, cell in enumerate(cells) if _prints(cell))
        self._images = [i for i, cell in enumerate(cells) if "image/png" in _shown(cell)]
        self._cells = cells
        self._saves = 0

    def _section(self, number: int) -> list[dict[str, Any]]:
        words = [
            "epoch",
            "loss",
            "model",
            "optimizer",
            "gradient",
            "validation",
            "batch",
            "Größe",
            "→",
        ]
        prose = " ".join(self._random.choices(words, k=80))
        code = "\n".join(
            f"x_{i} = layer_{i}(x_{i - 1})  # {self._random.random()}" for i in range(15)
        )
        log = "".join(
            f"epoch {i:3} loss {self._random.random():.6f} acc {self._random.random():.4f}\n"
            for i in range(40)
        )
        rows = "".join(f"<tr><td>{i}</td><td>{self._random.random()}</td></tr>" for i in range(60))
        section = [
            _cell(f"setup{number}", "code", "import torch\nfrom torch import nn"),
            _cell(f"prose{number}", "markdown", f"## Section {number}\n\n{prose}"),
            _cell(
                f"log{number}",
                "code",
                code,
                {"output_type": "stream", "name": "stdout", "text": log},
            ),
            _cell(
                f"table{number}", "code", code, _display({"text/html": f"<table>{rows}</table>"})
            ),
            _cell(f"image{number}", "code", code, self._image()),
        ]
        if number % 16 == 0:
            points = [round(self._random.random(), 6) for _ in range(self._image_size // 40)]
            plot = {
                "data": [{"type": "scatter", "x": list(range(len(points))), "y": points}],
                "layout": {},
            }
            section.append(
                _cell(
                    f"plot{number}",
                    "code",
                    code,
                    _display({"application/vnd.plotly.v1+json": plot}),
                )
            )
        return section

    def _image(self) -> dict[str, Any]:
        image = base64.encodebytes(self._random.randbytes(self._image_size)).decode()
        return _display({"image/png": image})

    def body(self) -> bytes:
        """Return the body of the next save."""
        self._saves += 1
        log = self._cells[self._log]
        log["outputs"][0]["text"] += f"epoch {self._saves} loss {self._random.random():.6f}\n"
        log["execution_count"] = self._saves
        self._encoded[self._log] = _json(log)
        place = self._images[self._saves % len(self._images)]
        self._cells[place]["outputs"] = [self._image()]
        self._cells[place]["execution_count"] = self._saves
        self._encoded[place] = _json(self._cells[place])
        metadata = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python", "version": "3.12"},
        }
        head = b'{"type": "notebook", "format": "json", '
        head += b'"content": {"nbformat": 4, "nbformat_minor": 5, '
        return b"".join(
            [
                head,
                b'"metadata": ',
                _json(metadata),
                b', "cells": [',
                b",".join(self._encoded),
                b"]}}",
            ]
        )


def _cell(id: str, kind: str, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    cell: dict[str, Any] = {"id": id, "cell_type": kind, "metadata": {}, "source": source}
    if kind == "code":
        cell.update(execution_count=1, outputs=list(outputs))
    return cell


def _display(data: dict[str, Any]) -> dict[str, Any]:
    shown = {**data, "text/plain": "<Figure size 640x480 with 1 Axes>"}
    return {"output_type": "display_data", "data": shown, "metadata": {"needs_background": "light"}}


def _prints(cell: dict[str, Any]) -> bool:
    return any(output["output_type"] == "stream" for output in cell.get("outputs", ()))


def _shown(cell: dict[str, Any]) -> dict[str, Any]:
    return {
        mime: value
        for output in cell.get("outputs", ())
        for mime, value in output.get("data", {}).items()
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
