"""The base class of the handlers: identity, worker threads, responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async
from tornado import web

from ..errors import AxonError, Forbidden
from .context import SETTING, RequestContext, ServerContext
from .paths import NotebookPaths
from .responses import Response, encode, error_response, error_status

P = ParamSpec("P")
T = TypeVar("T")

#: Marks a response from which pending saves may be missing.
_STALE_HEADER: Final = "X-Axon-Stale"
_WITHOUT_BODY: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class AxonHandler(APIHandler):
    """The base class of the handlers.

    A verb passes a function of the :class:`.RequestContext` to :meth:`respond`, which calls it in
    a worker thread.
    """

    auth_resource = "axon"
    _context: RequestContext | None = None

    def set_default_headers(self) -> None:
        """Disable response caching, because responses change with every save."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    @property
    def server(self) -> ServerContext:
        """The objects that all requests share."""
        return cast(ServerContext, self.settings[SETTING])

    @property
    def contents(self) -> Any:
        """The contents manager; calls need ``ensure_async``, as methods may be coroutines."""
        return self.contents_manager

    @property
    def context(self) -> RequestContext:
        """The request, for the worker threads."""
        if self._context is None:
            self._context = RequestContext(
                server=self.server,
                user_id=self.server.config.acting_user(self.current_user.username),
                paths=NotebookPaths(self.contents_manager),
                request=self.request,
            )
        return self._context

    async def check_contents(self, action: str) -> None:
        """Raise Forbidden unless the user may ``read`` or ``write`` contents, besides records."""
        allowed = self.authorizer.is_authorized(self, self.current_user, action, "contents")
        if not await ensure_async(allowed):
            raise Forbidden(f"not authorized to {action} on resource: contents")

    async def prepare(self) -> None:  # type: ignore[override]  # tornado awaits it
        """Open the store if needed."""
        await super().prepare()
        if self.current_user and not self.server.sync.is_open:
            await self.run(self.context.drain)
            _ = self.server.sync.session  # raises the reason if it is still not open

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a worker thread and return its result."""
        threads = self.server.writers if self.context.is_write else self.server.readers
        return await asyncio.wrap_future(threads.submit(work))

    async def respond(
        self,
        work: Callable[Concatenate[RequestContext, P], Response],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Send the response that ``work(context, ...)`` returns, after pending saves."""

        def drain_and_work() -> Response:
            self.context.drain()
            return work(self.context, *args, **kwargs)

        await self.send(await self.run(drain_and_work))

    async def send(self, response: Response) -> None:
        """Encode a response in a worker thread and send it."""
        self._send(response, await self.run(partial(encode, response.body)))

    def _send(self, response: Response, body: bytes) -> None:
        self.set_status(response.status)
        for name, value in response.headers.items():
            self.set_header(name, value)
        context = self._context
        is_stale = context is not None and context.is_stale and not context.is_write
        if is_stale and response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.set_header(_STALE_HEADER, "true")
        self.finish(
            None if response.status in _WITHOUT_BODY else body,
            set_content_type=response.media_type,
        )

    def compute_etag(self) -> None:
        """Disable tornado's tags, which are computed from the body in the event loop."""

    def update_api_activity(self) -> None:
        """Record the user's activity, ignoring query arguments that are not text."""
        with suppress(web.HTTPError):
            super().update_api_activity()

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log server errors; client errors are only in the response."""
        if not isinstance(value, AxonError):
            super().log_exception(typ, value, tb)
        elif error_status(value) >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.error("axon: %s %s: %s", self.request.method, self.request.path, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send an error as JSON."""
        response = error_response(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self._send(response, encode(response.body))


def endpoint(**functions: Callable[..., Response]) -> type[AxonHandler]:
    """Return a handler that answers each verb with what a function of the context returns.

    The functions also get the ids in the path.
    """

    def verb(function: Callable[..., Response]) -> Any:
        @web.authenticated
        @authorized
        async def respond(self: AxonHandler, *ids: str) -> None:
            await self.respond(function, *ids)

        return respond

    verbs = {name: verb(function) for name, function in functions.items()}
    return type("Endpoint", (AxonHandler,), verbs)


class NotFoundHandler(AxonHandler):
    """Sends 404 as JSON for unknown paths."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Refuse the request, whatever its method."""
        await super().prepare()
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN)
        raise web.HTTPError(HTTPStatus.NOT_FOUND, f"there is nothing at {self.request.path}")
