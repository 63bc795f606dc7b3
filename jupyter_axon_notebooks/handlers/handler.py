"""What all handlers share: identity, bodies, and the way to the worker threads and back."""

from __future__ import annotations

import asyncio
import hashlib
from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.http1connection import HTTP1Connection

from ..errors import AxonError, Forbidden, StoreBusy, TooLarge
from .call import Actor, Call
from .freshness import Freshness
from .paths import NotebookPaths
from .queries import Query
from .responses import Answer, encode, error_answer, tag_of
from .services import SETTING, Services
from .writers import TIMEOUT as WRITE_TIMEOUT

T = TypeVar("T")
Q = TypeVar("Q")

#: A body of up to so many times the limit is read and thrown away before it is refused: a client that is still
#: sending when the connection closes would see a broken pipe instead of the answer.
_THROWN_AWAY: Final = 8
#: The methods that change nothing.
_READING: Final = ("GET", "HEAD", "OPTIONS")
#: The header of an answer that may lack saves which are still on their way to the store.
_STALE: Final = "X-Axon-Stale"
_SERVER_ERROR: Final = HTTPStatus.INTERNAL_SERVER_ERROR
_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@web.stream_request_body
class AxonHandler(APIHandler):
    """Base of the handlers. A verb decodes, then hands a function of its :attr:`call` to :meth:`respond`.

    Bodies come in pieces, so that whoever may not send one, or sends too much, is refused before it is in memory.
    """

    auth_resource = "axon"

    def initialize(self) -> None:
        """Begin with an empty body."""
        self._body: list[bytes] = []
        self._body_size = 0
        self._freshness: Freshness | None = None
        self._is_begun = False

    def set_default_headers(self) -> None:
        """Add that answers are nobody's to keep: they change with every save."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    @property
    def services(self) -> Services:
        """What the extension made."""
        return cast(Services, self.settings[SETTING])

    @property
    def contents(self) -> Any:
        """The contents manager; its methods may be coroutines, so that calls need ``ensure_async``."""
        return self.contents_manager

    async def check_contents(self, action: str) -> None:
        """See that the authorizer lets the user ``read`` or ``write`` contents: whoever may use records may not, by
        that alone, touch files.

        Raises
        ------
        Forbidden
            When it does not.
        """
        allowed = self.authorizer.is_authorized(self, self.current_user, action, "contents")
        if not await ensure_async(allowed):
            raise Forbidden(f"not authorized to {action} on resource: contents")

    @property
    def call(self) -> Call:
        """This request, for the worker threads."""
        services = self.services
        user_id = services.config.acting_user(self.current_user.username)
        return Call(
            services=services,
            actor=Actor(user_id, user_id in services.config.admin_users),
            paths=NotebookPaths(self.contents_manager),
            query=Query(self.request.query_arguments),
            read_body=self._read_body,
            if_match=self.request.headers.get("If-Match"),
            freshness=self.freshness,
        )

    @property
    def freshness(self) -> Freshness:
        """How long this request waits for saves on their way; it begins to wait when it is first asked for."""
        if self._freshness is None:
            self._freshness = Freshness.of_request(writes=self._may_write)
        return self._freshness

    @property
    def _may_write(self) -> bool:
        return self.request.method not in _READING

    async def prepare(self) -> None:  # type: ignore[override]  # tornado awaits it
        """Refuse, before a byte of the body is taken, whom the server does not know."""
        await super().prepare()
        if self.request.method == "OPTIONS":
            return
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN)
        sync = self.services.sync
        if not sync.is_open:
            await self.run(partial(self.freshness.settle, sync))  # tries again
            _ = sync.session  # or says why not
        await self.prepare_body()

    async def prepare_body(self) -> None:
        """Refuse a body that says it is far too large; one that is a little too large is thrown away and refused."""
        limit = self.services.config.max_body_size
        most = limit * _THROWN_AWAY
        declared = self.declared_size()
        if (
            declared is not None
            and declared > limit
            and (declared > most or "Expect" in self.request.headers)
        ):
            self.take_at_most(
                declared
            )  # the answer is given; the server must not add one of its own
            self._body_size = declared
            self._read_body()
        self.take_at_most(most)

    def declared_size(self) -> int | None:
        """The bytes that the body will have, if the client says."""
        text = self.request.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def take_at_most(self, size: int) -> None:
        """Let this request have a body of ``size`` bytes."""
        cast(HTTP1Connection, self.request.connection).set_max_body_size(size)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Keep a piece of the body, as long as it stays under the limit."""
        self._body_size += len(chunk)
        if self._body_size > self.services.config.max_body_size:
            self._body.clear()
        else:
            self._body.append(chunk)
        return None

    def _read_body(self) -> bytes:
        limit = self.services.config.max_body_size
        if self._body_size > limit:
            raise TooLarge(f"the body has more than {limit} bytes (AxonNotebooks.max_body_size)")
        return b"".join(self._body)

    async def run(
        self, work: Callable[[], T], *, settle: bool = False, writes: bool | None = None
    ) -> T:
        """Do ``work`` in a worker thread and return what it returns.

        Parameters
        ----------
        settle : bool
            Wait for the saves on their way first.
        writes : bool, optional
            Whether ``work`` may have to wait until it can change the store; by default what the request's method says.
            Such work has threads of its own, so that reads go on while it waits.

        Raises
        ------
        StoreBusy
            When the first such work of this request gets no thread in time. Later work is done however long that takes,
            so that a change is not left half done. Also when a request that only reads has waited for a thread as long
            as it may, and the store could not be read meanwhile.
        """
        services, freshness = self.services, self.freshness

        def settled() -> T:
            freshness.settle(services.sync)
            return work()

        hop = settled if settle else work
        if not (self._may_write if writes is None else writes):
            if not (self._may_write or self._is_begun):
                self._is_begun = True
                hop = partial(self._read, hop)
            return await asyncio.get_running_loop().run_in_executor(services.executor, hop)
        timeout = None if self._is_begun else WRITE_TIMEOUT
        done = await services.writers.run(hop, timeout)
        self._is_begun = True
        return done

    def _read(self, work: Callable[[], T]) -> T:
        """Do ``work``, unless it would only find out what others did while it waited: that the store cannot be read."""
        outage = self.services.outage
        if self.freshness.is_over and outage.is_recent:
            raise StoreBusy("the store cannot be read: others keep it locked; try again")
        try:
            return work()
        except StoreBusy:
            outage.note()
            raise

    async def respond(self, work: Callable[[Call], Answer], *, large: bool = False) -> None:
        """Answer with what ``work`` returns: done and encoded in a worker thread, after the saves on their way.

        Of answers that may be ``large`` few are made at a time, since each is in memory several times over meanwhile.
        """
        call = self.call

        def worked() -> tuple[Answer, bytes]:
            answer = work(call)
            return answer, encode(answer.body)

        self.send(*await (self.make_large(worked) if large else self.run(worked, settle=True)))

    async def make_large(self, work: Callable[[], T]) -> T:
        """Do ``work``, which reads the outputs of a notebook, after the saves on their way; few such at a time.

        Raises
        ------
        StoreBusy
            As :meth:`run` does, and when others have been at it for too long.
        """
        services = self.services
        settle = partial(self.freshness.settle, services.sync)
        await asyncio.get_running_loop().run_in_executor(services.executor, settle)
        async with services.making_large():
            return await self.run(work)

    async def respond_tagged(
        self, notebook_id: str, read: Callable[[Query], Q], work: Callable[[Call, Q], Answer]
    ) -> None:
        """As :meth:`respond`, for what is asked again and again: a client that names the tag of the answer gets 304.

        As long as nothing is committed to the store the tag is known, and ``work`` is not done for such a client.

        Parameters
        ----------
        read : callable
            Returns what the query asks for; the answer may depend on no other argument. Clients add others to each URL.
        work : callable
            Answers that, of a notebook that the user may see; that is checked here.
        """
        call, tags = self.call, self.services.tags
        named = self.request.headers.get("If-None-Match", "")

        def worked() -> tuple[Answer, bytes, str]:
            call.summary(notebook_id)
            query = read(call.query)
            asked = _digest(self.request.method, self.request.path, query, call.actor)
            # Asked for before anything is read: what is committed from now on changes it.
            marker = call.repository.store.change_marker()
            tag = tags.known(asked, marker)
            if tag is not None and tag in named and not call.freshness.is_stale:
                return Answer(status=HTTPStatus.NOT_MODIFIED), b"", tag
            lease_end = call.repository.runs.next_lease_end(notebook_id)
            answer = work(call, query)
            body = encode(answer.body)
            tag = tag_of(answer, body)
            tags.keep(asked, marker, tag, lease_end)
            return answer, body, tag

        answer, body, tag = await self.run(worked, settle=True)
        if not self.freshness.is_stale:  # else nobody should keep it
            self.set_header("Cache-Control", "private, no-cache")
            self.set_header("ETag", tag)
            if web.RequestHandler.check_etag_header(self):
                answer, body = answer._replace(status=HTTPStatus.NOT_MODIFIED), b""
        self.send(answer, body)

    async def answer(self, answer: Answer) -> None:
        """Send an answer, encoded in a worker thread."""
        self.send(answer, await self.run(partial(encode, answer.body), writes=False))

    def send(self, answer: Answer, body: bytes) -> None:
        """Send an answer whose body is encoded."""
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self.finish(None if answer.status in _BODILESS else body)

    def finish(self, *args: Any, **kwargs: Any) -> Future[None]:
        """Say of an answer that was only read whether it may lack saves."""
        if self.freshness.is_stale and not self._may_write and self.get_status() < _SERVER_ERROR:
            self.set_header(_STALE, "true")
        return super().finish(*args, **kwargs)

    def compute_etag(self) -> None:
        """Give no tag that would have to be computed from the whole answer, in the event loop."""

    def check_etag_header(self) -> bool:
        """Never say "not modified": a record's tag is its version, and more than that can change."""
        return False

    def update_api_activity(self) -> None:
        """Note the request; an argument that is no text must not spoil the answer."""
        with suppress(web.HTTPError):
            super().update_api_activity()

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log what the server is to blame for; what the client is, the answer says."""
        if not isinstance(value, AxonError):
            super().log_exception(typ, value, tb)
        elif error_answer(value, 500).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.error("axon: %s %s: %s", self.request.method, self.request.path, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error in JSON."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        answer = error_answer(error, status_code)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self._verbs()))
        self.send(answer, encode(answer.body))

    def _verbs(self) -> list[str]:
        missing = web.RequestHandler._unimplemented_method
        return [
            verb
            for verb in self.SUPPORTED_METHODS
            if getattr(type(self), verb.lower()) is not missing
        ]


class NowhereHandler(AxonHandler):
    """Answers where there is nothing, in JSON."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Nothing is here."""
        self._refuse()

    @web.authenticated
    @authorized
    async def head(self) -> None:
        """Nothing is here."""
        self._refuse()

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Nothing is here."""
        self._refuse()

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Nothing is here."""
        self._refuse()

    @web.authenticated
    @authorized
    async def patch(self) -> None:
        """Nothing is here."""
        self._refuse()

    @web.authenticated
    @authorized
    async def delete(self) -> None:
        """Nothing is here."""
        self._refuse()

    def _refuse(self) -> None:
        raise web.HTTPError(HTTPStatus.NOT_FOUND, f"there is nothing at {self.request.path}")


def _digest(*asked: object) -> str:
    """Return a text of bounded length that is the same for what is the same in all of ``asked``."""
    return hashlib.sha256(repr(asked).encode()).hexdigest()
