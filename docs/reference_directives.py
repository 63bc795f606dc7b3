"""Sphinx directives that generate reference pages: `rest-routes` and `server-traits`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jupyter_axon_notebooks.config import AxonNotebooks

_OPENAPI = Path(__file__).parents[1] / "jupyter_axon_notebooks" / "handlers" / "openapi.yaml"


class RestRoutes(SphinxDirective):
    """Describe every route of `openapi.yaml` in a section of its own."""

    def run(self) -> list[nodes.Node]:
        """Render the routes as Markdown and parse it."""
        self.env.note_dependency(str(_OPENAPI))
        document = yaml.safe_load(_OPENAPI.read_text(encoding="utf-8"))
        text = "\n".join(_describe_routes(document))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class ServerTraits(SphinxDirective):
    """Describe every configurable trait of the server extension."""

    def run(self) -> list[nodes.Node]:
        """Render the traits as a Markdown definition list and parse it."""
        lines = []
        for name, trait in sorted(AxonNotebooks.class_own_traits(config=True).items()):
            lines += [f"`c.AxonNotebooks.{name}` ({type(trait).__name__})"]
            default = trait.default_value
            paragraphs = inspect.cleandoc(trait.help).split("\n\n")
            if isinstance(default, (bool, int, list)):
                paragraphs.append(f"Default: `{default!r}`")
            lines += [": " + paragraphs[0].replace("\n", "\n  "), ""]
            for paragraph in paragraphs[1:]:
                lines += ["  " + paragraph.replace("\n", "\n  "), ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _describe_routes(document: dict[str, Any]) -> Iterator[str]:
    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    for path, item in document["paths"].items():
        for method in ("get", "put", "post", "delete"):
            if method not in item:
                continue
            operation = item[method]
            yield f"### {method.upper()} `{path}`\n"
            yield f"{operation['summary'].rstrip('.')}.\n"
            if "description" in operation:
                yield operation["description"] + "\n"
            parameters = [
                resolve(parameter)
                for parameter in (*item.get("parameters", ()), *operation.get("parameters", ()))
            ]
            if parameters:
                yield "| parameter | in | type | description |\n| --- | --- | --- | --- |"
                for parameter in parameters:
                    schema = resolve(parameter.get("schema", {}))
                    kind = schema.get("type", "")
                    kind = " or ".join(kind) if isinstance(kind, list) else kind
                    name = f"`{parameter['name']}`" + (
                        " (required)" if parameter.get("required") else ""
                    )
                    text = _one_line(parameter.get("description") or schema.get("description", ""))
                    yield f"| {name} | {parameter['in']} | {kind} | {text} |"
                yield ""
            if "requestBody" in operation:
                body = resolve(operation["requestBody"])
                yield f"Body: {_describe_content(body)}. {_one_line(body.get('description', ''))}\n"
            yield "| status | answer |\n| --- | --- |"
            for status, response in operation["responses"].items():
                response = resolve(response)
                name = "other" if status == "default" else status
                content = _describe_content(response)
                answer = _one_line(response["description"])
                yield f"| {name} | {answer}{f' ({content})' if content else ''} |"
            yield ""


def _describe_content(node: dict[str, Any]) -> str:
    described = []
    for media_type, content in node.get("content", {}).items():
        reference = content.get("schema", {}).get("$ref", "")
        schema = reference.rsplit("/", 1)[-1]
        described.append(f"`{media_type}`" + (f", {schema}" if schema else ""))
    return "; ".join(described)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("rest-routes", RestRoutes)
    app.add_directive("server-traits", ServerTraits)
    return {"parallel_read_safe": True}
