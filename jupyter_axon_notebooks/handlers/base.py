"""The base class of the handlers: identity, bodies, worker threads, responses."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.http1connection import HTTP1Connection

from ..errors import AxonError, Forbidden, TooLarge
from .context import SETTING, RequestContext, ServerContext
from .executor import WRITE_TIMEOUT
from .paths import NotebookPaths
from .queries import Query
from .responses import CachedTag, Response, digest, encode, entity_tag, error_response

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q")

#: A body of up to this many times the limit is received before it is refused. A client that is
#: still sending when the connection closes would see a broken pipe instead of the response.
_RECEIVED_FACTOR: Final = 8
_READ_METHODS: Final = ("GET", "HEAD", "OPTIONS")
#: Marks a response from which pending saves may be missing.
_STALE_HEADER: Final = "X-Axon-Stale"
#: Changes with every commit to the store: a client that sees the same value has nothing to fetch.
_REVISION_HEADER: Final = "X-Axon-Revision"
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
                query=Query(self.request.query_arguments),
                read_body=self._read_body,
                if_match=self.request.headers.get("If-Match"),
                is_write=self._is_write,
            )
        return self._context

    @property
    def _is_write(self) -> bool:
        return self.request.method not in _READ_METHODS

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
            await self.run(self.context.drain)
            _ = self.server.sync.session  # raises the reason if it is still not open
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
        if self._is_write if is_write is None else is_write:
            timeout = None if has_started else WRITE_TIMEOUT
            result = await executor.write(drain_and_work, timeout)
            self._has_started = True
            return result
        if has_started or self._is_write:
            return await executor.run(drain_and_work)
        self._has_started = True
        return await executor.read(drain_and_work, is_late=lambda: context.is_late)

    async def run_large(self, work: Callable[[], T]) -> T:
        """Run ``work`` that reads the outputs of a notebook, after pending saves.

        Few such run at a time, because a large response is in memory several times over.
        """
        await self.server.executor.run(self.context.drain)
        async with self.server.executor.large_response():
            return await self.run(work)

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
        """Send a response as :meth:`respond` does, with the limits of :meth:`run_large`."""
        self.send(*await self.run_large(partial(self._build, work, *args, **kwargs)))

    def _build(self, work: Callable[..., Response], *args: Any, **kwargs: Any) -> Any:
        response = work(self.context, *args, **kwargs)
        return response, encode(response.body)

    async def respond_cached(
        self,
        notebook_id: str,
        parse: Callable[[Query], Q],
        work: Callable[[RequestContext, str, Q], Response],
        *,
        large: bool = False,
    ) -> None:
        """Send a response with an entity tag, or 304 to a client that names the tag.

        While the store does not change, 304 is sent without calling ``work``.

        Parameters
        ----------
        notebook_id : str
            A notebook; whether the user has access to it is checked here.
        parse : callable
            Returns the parameters of ``work`` from the query. The response may depend on no other
            query arguments, because clients add their own.
        work : callable
            Called with the context, the notebook's id and the parameters.
        """
        context, tags = self.context, self.server.tags
        client_tags = self.request.headers.get("If-None-Match", "")

        def build() -> tuple[Response, bytes, CachedTag]:
            context.get_summary(notebook_id)
            query = parse(context.query)
            key = digest(self.request.method, self.request.path, query, context.user_id)
            # Read before the data, so that a later commit changes it.
            marker = context.repository.store.change_marker()
            cached = tags.get(key, marker)
            if cached is not None and cached.tag in client_tags and not context.is_stale:
                return Response(status=HTTPStatus.NOT_MODIFIED), b"", cached
            valid_until = context.repository.runs.next_lease_end(notebook_id)
            response = work(context, notebook_id, query)
            body = encode(response.body)
            cached = CachedTag(marker, f'"{entity_tag(body, response.headers)}"', valid_until)
            tags.set(key, cached)
            return response, body, cached

        response, body, cached = await (
            self.run_large(build) if large else self.run(build, drain=True)
        )
        if context.is_stale:
            self.send(response, body)
            return
        headers = {
            **response.headers,
            "Cache-Control": "private, no-cache",
            "ETag": cached.tag,
            _REVISION_HEADER: cached.revision,
        }
        self.set_header("ETag", cached.tag)
        if web.RequestHandler.check_etag_header(self):
            response, body = Response(status=HTTPStatus.NOT_MODIFIED), b""
        self.send(response._replace(headers=headers), body)

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
        self.finish(None if response.status in _WITHOUT_BODY else body)

    def finish(self, *args: Any, **kwargs: Any) -> Future[None]:
        """Mark the response to a read from which pending saves may be missing."""
        is_stale = self._context is not None and self._context.is_stale and not self._is_write
        if is_stale and self.get_status() < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.set_header(_STALE_HEADER, "true")
        return super().finish(*args, **kwargs)

    def compute_etag(self) -> None:
        """Disable tornado's tags, which are computed from the body in the event loop."""

    def check_etag_header(self) -> bool:
        """Disable tornado's 304 responses; :meth:`respond_cached` sends them."""
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
        elif error_response(value, 500).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
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


class NotFoundHandler(AxonHandler):
    """Sends 404 as JSON for unknown paths."""

    async def prepare_body(self) -> None:
        """Refuse the request, whatever its method."""
        raise web.HTTPError(HTTPStatus.NOT_FOUND, f"there is nothing at {self.request.path}")
