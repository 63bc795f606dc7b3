"""What answers under ``/axon``, and its specification."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import url_path_join
from tornado import web

from .._version import __version__
from .handler import AxonHandler
from .responses import Answer

_NAME: Final = "jupyter-axon-notebooks"
_SPECIFICATION: Final = "openapi.yaml"


class IndexHandler(AxonHandler):
    """The index of the REST API: what answers there, and where the rest is."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return its name and version, and where to go on."""
        base = url_path_join(self.base_url, "axon")
        paths = {name: url_path_join(base, path) for name, path in _PATHS.items()}
        await self.answer(Answer({"name": _NAME, "version": __version__, **paths}))


_PATHS: Final = {"openapi": _SPECIFICATION, "notebooks": "notebooks"}


class SpecificationHandler(AxonHandler):
    """The specification of the REST API."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return ``openapi.yaml``."""
        self.finish(await self.run(_specification), set_content_type="application/yaml")


@cache
def _specification() -> bytes:
    return resources.files(__package__).joinpath(_SPECIFICATION).read_bytes()
