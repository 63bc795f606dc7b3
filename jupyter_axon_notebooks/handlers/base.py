"""The base class of the handlers: identity, bodies, worker threads, responses."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.http1connection import HTTP1Connection

from ..errors import AxonError, Forbidden, TooLarge
from .context import SETTING, RequestContext, ServerContext
from .executor import WRITE_TIMEOUT
from .paths import NotebookPaths
from .responses import Response, encode, error_response, error_status

P = ParamSpec("P")
T = TypeVar("T")

#: A body of up to this many times the limit is received before it is refused. A client that is
#: still sending when the connection closes would see a broken pipe instead of the response.
_RECEIVED_FACTOR: Final = 8
#: Marks a response from which pending saves may be missing.
_STALE_HEADER: Final = "X-Axon-Stale"
_WITHOUT_BODY: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@web.stream_request_body
class AxonHandler(APIHandler):
    """The base class of the handlers.

    A verb passes a function of the :class:`.RequestContext` to :meth:`respond`, which calls it in
    a worker thread. Bodies are streamed, so that a request can be refused before its body is in
    memory.
    """

    auth_resource = "axon"

    def initialize(self) -> None:
        """Start with an empty body."""
        self._body: list[bytes] = []
        self._body_size = 0
        self._context: RequestContext | None = None
        self._has_started = False

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
                read_body=self._read_body,
            )
        return self._context

    async def check_contents(self, action: str) -> None:
        """Raise Forbidden unless the user may ``read`` or ``write`` contents, besides records."""
        allowed = self.authorizer.is_authorized(self, self.current_user, action, "contents")
        if not await ensure_async(allowed):
            raise Forbidden(f"not authorized to {action} on resource: contents")

    # Receiving a request.

    async def prepare(self) -> None:  # type: ignore[override]  # tornado awaits it
        """Reject unauthenticated requests before reading the body, and open the store if needed."""
        await super().prepare()
        if self.request.method == "OPTIONS":
            return
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN)
        if not self.server.sync.is_open:
            await self.run(self.context.wait_for_store, is_write=False)
        await self.prepare_body()

    async def prepare_body(self) -> None:
        """Reject a body at once if it is far over the limit, else when it is read."""
        limit = self.server.config.max_body_size
        received = limit * _RECEIVED_FACTOR
        declared = self.declared_size()
        if (
            declared is not None
            and declared > limit
            and (declared > received or "Expect" in self.request.headers)
        ):
            self.limit_body(declared)  # else tornado would add a response of its own
            self._body_size = declared
            self._read_body()
        self.limit_body(received)

    def declared_size(self) -> int | None:
        """Return the Content-Length, if there is a valid one."""
        text = self.request.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def limit_body(self, size: int) -> None:
        """Receive a body of at most ``size`` bytes."""
        cast(HTTP1Connection, self.request.connection).set_max_body_size(size)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Keep a chunk of the body, until there is too much of it."""
        self._body_size += len(chunk)
        if self._body_size > self.server.config.max_body_size:
            self._body.clear()
        else:
            self._body.append(chunk)
        return None

    def _read_body(self) -> bytes:
        limit = self.server.config.max_body_size
        if self._body_size > limit:
            raise TooLarge(f"the body has more than {limit} bytes (AxonNotebooks.max_body_size)")
        return b"".join(self._body)

    # Working on it.

    async def run(
        self, work: Callable[[], T], *, drain: bool = False, is_write: bool | None = None
    ) -> T:
        """Run ``work`` in a worker thread and return its result.

        Parameters
        ----------
        drain : bool
            Wait for pending saves first.
        is_write : bool, optional
            Whether ``work`` may change the store; by default whether the request's method may.

        Raises
        ------
        StoreBusy
            If no thread was free in time, before any work of the request was done. Later work is
            not refused, so that a change is never half done.
        """
        context, executor = self.context, self.server.executor

        def drain_and_work() -> T:
            if drain:
                context.drain()
            return work()

        has_started = self._has_started
        if context.is_write if is_write is None else is_write:
            timeout = None if has_started else WRITE_TIMEOUT
            result = await executor.write(drain_and_work, timeout)
            self._has_started = True
            return result
        if has_started or context.is_write:
            return await executor.run(drain_and_work)
        self._has_started = True
        return await executor.read(drain_and_work, is_late=lambda: context.is_late)

    async def respond(
        self,
        work: Callable[Concatenate[RequestContext, P], Response],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Send the response that ``work(context, ...)`` returns, after pending saves."""
        self.send(*await self.run(partial(self._build, work, *args, **kwargs), drain=True))

    async def respond_large(
        self,
        work: Callable[Concatenate[RequestContext, P], Response],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Send a response with the outputs of a notebook as :meth:`respond` does.

        Few are built at a time, because a large response is in memory several times over.
        """
        await self.server.executor.run(self.context.drain)
        async with self.server.executor.large_response():
            built = await self.run(partial(self._build, work, *args, **kwargs))
        self.send(*built)

    def _build(self, work: Callable[..., Response], *args: Any, **kwargs: Any) -> Any:
        response = work(self.context, *args, **kwargs)
        return response, encode(response.body)

    # Responding.

    async def send_response(self, response: Response) -> None:
        """Encode a response in a worker thread and send it."""
        body = await self.run(partial(encode, response.body), is_write=False)
        self.send(response, body)

    def send(self, response: Response, body: bytes) -> None:
        """Send a response with an encoded body."""
        self.set_status(response.status)
        for name, value in response.headers.items():
            self.set_header(name, value)
        self.finish(
            None if response.status in _WITHOUT_BODY else body,
            set_content_type=response.media_type,
        )

    def finish(self, *args: Any, **kwargs: Any) -> Future[None]:
        """Mark the response to a read from which pending saves may be missing."""
        context = self._context
        is_stale = context is not None and context.is_stale and not context.is_write
        if is_stale and self.get_status() < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.set_header(_STALE_HEADER, "true")
        return super().finish(*args, **kwargs)

    def compute_etag(self) -> None:
        """Disable tornado's tags, which are computed from the body in the event loop."""

    def check_etag_header(self) -> bool:
        """Disable tornado's 304 responses; :func:`.responses.polled` sends them."""
        return False

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
        error = kwargs.get("exc_info", (None, None, None))[1]
        response = error_response(error, status_code)
        if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
            missing = web.RequestHandler._unimplemented_method
            verbs = [
                verb
                for verb in self.SUPPORTED_METHODS
                if getattr(type(self), verb.lower()) is not missing
            ]
            self.set_header("Allow", ", ".join(verbs))
        self.send(response, encode(response.body))


def endpoint(
    *,
    large: bool | Callable[[RequestContext], bool] = False,
    **functions: Callable[..., Response],
) -> type[AxonHandler]:
    """Return a handler that answers each verb with what a function of the context returns.

    The functions also get the ids in the path. ``large`` limits how many responses are built at a
    time, for all requests or those for which it returns true; see
    :meth:`AxonHandler.respond_large`.
    """

    def verb(function: Callable[..., Response]) -> Any:
        @web.authenticated
        @authorized
        async def respond(self: AxonHandler, *ids: str) -> None:
            is_large = large(self.context) if callable(large) else large
            await (self.respond_large if is_large else self.respond)(function, *ids)

        return respond

    verbs = {name: verb(function) for name, function in functions.items()}
    return type("Endpoint", (AxonHandler,), verbs)


class NotFoundHandler(AxonHandler):
    """Sends 404 as JSON for unknown paths."""

    async def prepare_body(self) -> None:
        """Refuse the request, whatever its method."""
        raise web.HTTPError(HTTPStatus.NOT_FOUND, f"there is nothing at {self.request.path}")
