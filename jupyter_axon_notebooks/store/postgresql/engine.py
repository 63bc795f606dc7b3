"""The PostgreSQL engine: many concurrent writers, which lock the rows that they change.

Transactions are READ COMMITTED: rows that a decision depends on are locked when they are read. A
row that does not exist yet is locked by name.

If the connection is lost during a commit, its outcome is unknown. Therefore each connection has a
row, its commit mark, and each transaction that writes stores its id there, in the same message as
the COMMIT. After a lost connection, the mark tells the outcome. (PostgreSQL's transaction ids are
not suitable: after a crash it reuses ids whose log was not flushed.)
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from functools import partial
from typing import Any

import sqlalchemy as sa

from ...errors import AxonError, OutcomeUnknown, StoreError
from ...records import new_id
from ..engine import Engine
from ..error_mapping import Interrupted, map_errors
from ..schema import SCHEMA_VERSION
from ..urls import has_secret, shown_url
from .error_mapping import translate_error
from .passfile import check_can_be_opened, explain_refusal

#: The table of commit marks, one row per connection.
MARKS = "axon_commits"
_OLDEST_VERSION = 13
#: Connections that a process keeps open, and the number of further ones for a short time. A server
#: has eight threads for requests and one for saves; kernels have the threads of the user.
_POOL_SIZE = 4
_OVERFLOW = 12
#: Seconds between two attempts to find out the outcome of a commit.
_PAUSE = 0.1
# The limit for an idle transaction, if the database has none: a kernel that is suspended within one
# would block others. Transactions take less than a second.
_IDLE_TIMEOUT = "60s"
# Locked marks are skipped: they are in use.
_DELETE_OLD_MARKS = (
    f"DELETE FROM {MARKS} WHERE connection IN (SELECT connection FROM {MARKS} "  # noqa: S608
    "WHERE made_at < now() - interval '1 day' FOR UPDATE SKIP LOCKED)"
)
_CREATE_MARKS = (
    f"CREATE TABLE IF NOT EXISTS {MARKS} "
    "(connection text PRIMARY KEY, unit text NOT NULL, made_at timestamptz NOT NULL, "
    "role name NOT NULL DEFAULT current_user, fenced boolean NOT NULL DEFAULT false, "
    "schema_version integer NOT NULL)"
)
# `lock_timeout` of the session applies to reads; transactions set their own.
_ON_CONNECT = (
    "SELECT set_config('lock_timeout', %s, false), current_setting('synchronous_commit'), "
    "current_setting('idle_in_transaction_session_timeout')"
)
# Settings are made for each transaction, since a pooler may use another session for the next one.
# A single message takes hardly longer than BEGIN alone.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {lock_timeout}; "
    "SET LOCAL synchronous_commit = '{synchronous_commit}'; "
    "SET LOCAL idle_in_transaction_session_timeout = '{idle_timeout}'"
)
_CHANGE_MARKER = "SELECT pg_current_snapshot()::text || ' ' || pg_postmaster_start_time()::text"
_OUTDATE = (
    f"ALTER TABLE {MARKS} DROP CONSTRAINT IF EXISTS axon_outdated; ALTER TABLE {MARKS} "
    "ADD CONSTRAINT axon_outdated CHECK (schema_version >= {version}) NOT VALID"
)
# A single message takes no longer than COMMIT alone. Parameters are not possible in it, but all
# values consist of hexadecimal digits and dashes. If the mark is fenced, the NULL violates its
# constraint, so that nothing is committed.
_COMMIT_WITH_MARK = (
    f"INSERT INTO {MARKS} (connection, unit, made_at, schema_version) "  # noqa: S608
    "VALUES ('{connection}', '{unit}', now(), {version}) "
    "ON CONFLICT (connection) DO UPDATE "
    f"SET unit = CASE WHEN {MARKS}.fenced THEN NULL ELSE excluded.unit END, "
    "made_at = excluded.made_at, schema_version = excluded.schema_version; COMMIT"
)
# This waits for a commit in progress, which has locked the row. If the server has not yet read the
# message with the commit, `fenced` lets that commit fail.
_READ_MARK = (
    f"INSERT INTO {MARKS} (connection, unit, made_at, fenced, schema_version) "  # noqa: S608
    "VALUES (%s, '', now(), true, %s) "
    "ON CONFLICT (connection) DO UPDATE SET made_at = now(), fenced = true RETURNING unit"
)


class PostgresqlEngine(Engine):
    """The engine for PostgreSQL.

    The parameters are those of :class:`.database.Database`; parameters in the URL are passed to
    libpq.

    Raises
    ------
    StoreError
        When the URL has a password, or the driver is not installed.
    """

    on_server = True  # a forked child does not affect sockets that it does not use
    one_connection = False

    def __init__(
        self,
        url: str,
        busy_timeout: float,
        read_timeout: float,
        *,
        version: int = SCHEMA_VERSION,
        read_only: bool = False,
    ) -> None:
        self._url = url
        self._shown_url = shown_url(url)
        self._busy_timeout = busy_timeout
        self._read_timeout = read_timeout
        self._version = version
        self._read_only = read_only
        self.sql = self._create_engine()

    def _create_engine(self) -> sa.Engine:
        try:
            url = sa.engine.make_url(self._url).set(drivername="postgresql+psycopg")
        except (sa.exc.ArgumentError, ValueError):
            raise StoreError(
                f"store_url {self._shown_url} is invalid; expected "
                "postgresql+psycopg://<user>@<host>/<database>"
            ) from None
        if has_secret(url):
            raise StoreError(
                f"store_url {self._shown_url} has a password in it, which every kernel could read; "
                "put it into a passfile (~/.pgpass, PGPASSFILE, or ?passfile=/path in the URL)"
            )
        try:
            engine = sa.create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                use_native_hstore=False,  # avoids a query on every connection
                connect_args=_connect_arguments(url, self._busy_timeout),
                poolclass=sa.QueuePool,
                pool_size=_POOL_SIZE,
                max_overflow=_OVERFLOW,
                pool_timeout=self._busy_timeout,
                pool_use_lifo=True,
            )
        except sa.exc.ArgumentError as error:  # such as different numbers of hosts and ports
            raise StoreError(f"store_url {self._shown_url} is invalid: {error}") from error
        except ImportError as error:
            raise StoreError(
                f"the store {self._shown_url} needs psycopg: "
                f"pip install 'jupyter-axon-notebooks[postgresql]' ({error})"
            ) from error
        check_can_be_opened(url)
        map_errors(
            engine,
            lambda error, connected: translate_error(
                self._shown_url,
                error,
                connected=connected,
                explain_refusal=lambda message: explain_refusal(url, message),
            ),
        )

        @sa.event.listens_for(engine, "connect")
        def _prepare(connection: Any, record: Any) -> None:
            lock_timeout = str(_milliseconds(self._read_timeout))
            _, durability, idle = connection.execute(_ON_CONNECT, [lock_timeout]).fetchone()
            record.info["mark"] = new_id()
            record.info["begin"] = partial(
                _BEGIN.format,
                # Commits are durable, whatever the default of the database.
                synchronous_commit=durability if durability == "remote_apply" else "on",
                idle_timeout=_IDLE_TIMEOUT if idle == "0" else idle,
            )

        return engine

    def check(self) -> None:
        """Connect once, so that errors are reported without retries."""
        with self.sql.connect() as connection:
            number = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
            version = int(number) // 10_000
            if version < _OLDEST_VERSION:
                raise StoreError(
                    f"the store {self._shown_url} is on PostgreSQL {version}; "
                    f"{_OLDEST_VERSION} or newer is needed"
                )
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            if encoding != "UTF8":
                raise StoreError(
                    f"the database of the store {self._shown_url} has the encoding {encoding}; "
                    "create one with ENCODING 'UTF8'"
                )
            if self._read_only:
                return
            with suppress(StoreError):  # roles that may only read can open the store, too
                exists = connection.exec_driver_sql(f"SELECT to_regclass('{MARKS}')").scalar_one()
                if exists is not None:
                    connection.exec_driver_sql(_DELETE_OLD_MARKS)

    def prepare(self, connection: sa.Connection) -> None:
        """Create the table of commit marks."""
        connection.exec_driver_sql(_CREATE_MARKS)

    def outdate(self, connection: sa.Connection, version: int) -> None:
        """Reject the commit marks of older processes, so that they cannot commit."""
        connection.exec_driver_sql(_OUTDATE.format(version=version))

    def begin(self, connection: sa.Connection, timeout: float) -> None:
        """Begin a transaction."""
        connection.exec_driver_sql(connection.info["begin"](lock_timeout=_milliseconds(timeout)))

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Begin a read-only transaction in which all reads see the same state."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self, connection: sa.Connection, *, wrote: bool) -> None:
        """Commit; if the answer is lost, find out the outcome."""
        if not wrote:
            connection.commit()
            return
        mark, unit = str(connection.info["mark"]), new_id()
        try:
            connection.exec_driver_sql(
                _COMMIT_WITH_MARK.format(connection=mark, unit=unit, version=self._version)
            )
        except Interrupted as error:
            if not connection.invalidated or not self._is_committed(mark, unit, error):
                raise

    def _is_committed(self, mark: str, unit: str, lost: Interrupted) -> bool:
        """Return whether a commit whose answer was lost took effect; prevent it if it did not."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                with self.sql.connect() as connection:
                    self.begin(connection, self._busy_timeout)
                    row = connection.exec_driver_sql(_READ_MARK, (mark, self._version))
                    found = row.scalar_one()
                    connection.commit()
                    return bool(found == unit)
            except (AxonError, sa.exc.TimeoutError) as error:
                if not isinstance(error, Interrupted) or time.monotonic() + _PAUSE > deadline:
                    raise OutcomeUnknown(
                        f"the store {self._shown_url}: the connection was lost during a commit, "
                        "and whether the last change was stored could not be found out; check the "
                        f"record before you repeat the change ({error})"
                    ) from lost
                time.sleep(_PAUSE)

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Acquire the advisory lock for ``name``."""
        digest = hashlib.sha256(f"axon {name}".encode(errors="surrogatepass")).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))

    def change_marker(self, connection: sa.Connection) -> str:
        """Return the ids of visible transactions, and the start time of the server.

        The start time is needed since transaction ids may be reused after a crash.
        """
        return str(connection.exec_driver_sql(_CHANGE_MARKER).scalar_one())

    def after_fork_in_child(self) -> None:
        """Open new connections; keep the parent's, so that nothing closes them."""
        _inherited.append(self.sql)
        self.sql = self._create_engine()


# Engines of the parent process.
_inherited: list[sa.Engine] = []


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))  # 0 would mean forever


def _connect_arguments(url: sa.URL, busy_timeout: float) -> dict[str, Any]:
    arguments = {
        "connect_timeout": max(2, min(10, int(busy_timeout))),  # less than 2 means 2
        # Detect servers that disappeared, while waiting for an answer and while sending.
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": max(1000, int(busy_timeout * 1000)),
        "application_name": "jupyter-axon-notebooks",
    }
    defaults = {name: value for name, value in arguments.items() if name not in url.query}
    return {**defaults, "client_encoding": "utf8"}
