"""PostgreSQL as an engine: many writers at once, who meet at the rows they change.

Transactions are READ COMMITTED: who decides on what he reads locks it first. What has no row to lock is locked by name.

A server can vanish while it commits, and then nobody knows whether it has. So each unit that writes leaves a mark in a
row that belongs to its connection, written together with the COMMIT, and who lost the answer looks for the mark.
(The number of the transaction, for which PostgreSQL keeps the outcome, would not do: after a crash it gives out the
numbers of transactions whose log never reached the disk a second time.)
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
from ..error_mapping import Interrupted, name_failures
from ..schema import SCHEMA_VERSION
from ..urls import has_secret, shown_url
from .passfile import check_can_be_opened, explain_refusal

#: Where connections leave their marks; made beside the collections.
MARKS = "axon_commits"
_OLDEST = 13
#: Connections of one process that stay open while unused, and how many more there may be: eight threads that serve
#: requests, the one that syncs, and what people open by hand.
_POOL = 4
_OVERFLOW = 12
#: Seconds between two attempts to learn what became of a commit.
_PAUSE = 0.1
# How long a unit of work may do nothing, where the database has no limit of its own: a kernel that was stopped in the
# middle of one keeps what it locked from everybody else. A unit takes less than a second.
_IDLE = "60s"
# Abandoned marks go after this long. One that is just being written is not waited for.
_FORGET_MARKS = (
    f"DELETE FROM {MARKS} WHERE connection IN (SELECT connection FROM {MARKS} "  # noqa: S608 - the name is ours
    "WHERE made_at < now() - interval '1 day' FOR UPDATE SKIP LOCKED)"
)
_MAKE_MARKS = (
    f"CREATE TABLE IF NOT EXISTS {MARKS} "
    "(connection text PRIMARY KEY, unit text NOT NULL, made_at timestamptz NOT NULL, "
    "role name NOT NULL DEFAULT current_user, fenced boolean NOT NULL DEFAULT false, "
    "schema_version integer NOT NULL)"
)
# Reads that wait for a lock do not wait for ever either.
_ON_CONNECT = (
    "SELECT set_config('lock_timeout', %s, false), current_setting('synchronous_commit'), "
    "current_setting('idle_in_transaction_session_timeout')"
)
# What a unit depends on goes with it, not with the connection: behind a pooler the next unit may be in another session of
# the server. One message, which costs hardly more than a bare BEGIN.
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
# What is filled in is made here and holds nothing but digits and dashes. One message to the server: as costly as a bare
# COMMIT.
_COMMIT_WITH_MARK = (
    f"INSERT INTO {MARKS} (connection, unit, made_at, schema_version) "  # noqa: S608 - the name is ours
    "VALUES ('{connection}', '{unit}', now(), {version}) "
    f"ON CONFLICT (connection) DO UPDATE SET unit = CASE WHEN {MARKS}.fenced THEN NULL ELSE excluded.unit END, "
    "made_at = excluded.made_at, schema_version = excluded.schema_version; COMMIT"
)
# A unit that is still being committed holds the row, so this waits for it. One whose message the server has not read yet
# comes to a fence: there is no mark it could leave (NOT NULL), so it is not committed either.
_READ_MARK = (
    f"INSERT INTO {MARKS} (connection, unit, made_at, fenced, schema_version) "  # noqa: S608 - the name is ours
    "VALUES (%s, '', now(), true, %s) "
    "ON CONFLICT (connection) DO UPDATE SET made_at = now(), fenced = true RETURNING unit"
)


class PostgresqlEngine:
    """PostgreSQL behind the seam that :class:`.engine.Engine` is.

    Parameters
    ----------
    url : str
        ``postgresql+psycopg://<user>@<host>:<port>/<database>``; what follows a ``?`` is given to libpq.
    version : int
        The schema version that is written here.
    read_only : bool
        Whether to change nothing on opening.

    Raises
    ------
    StoreError
        When the URL carries a password, or the driver is not installed.
    """

    one_writer = False
    one_connection = False
    narrows_first = True
    survives_forks = (
        True  # a connection is a socket, and what the child does not touch it does not disturb
    )
    is_lost = False

    def __init__(
        self,
        url: str,
        busy_timeout: float,
        read_timeout: float | None = None,
        *,
        version: int = SCHEMA_VERSION,
        read_only: bool = False,
    ) -> None:
        self._given = url
        self._shown = shown_url(url)
        self._busy_timeout = busy_timeout
        self._read_timeout = busy_timeout if read_timeout is None else read_timeout
        self._version = version
        self._read_only = read_only
        self.sql = self._create_engine()

    def _create_engine(self) -> sa.Engine:
        try:
            url = sa.engine.make_url(self._given).set(drivername="postgresql+psycopg")
        except (sa.exc.ArgumentError, ValueError):
            raise StoreError(
                f"store_url {self._shown} cannot be read; expected postgresql+psycopg://<user>@<host>/<database>"
            ) from None
        if has_secret(url):
            raise StoreError(
                f"store_url {self._shown} has a password in it, which every kernel would be given; put it into a "
                "passfile instead (~/.pgpass, PGPASSFILE, or ?passfile=/path in the URL)"
            )
        try:
            engine = sa.create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                use_native_hstore=False,  # would be looked for on every connection
                connect_args=_connect_arguments(url, self._busy_timeout),
                poolclass=sa.QueuePool,
                pool_size=_POOL,
                max_overflow=_OVERFLOW,
                pool_timeout=self._busy_timeout,
                pool_use_lifo=True,
            )
        except sa.exc.ArgumentError as error:  # hosts and ports that do not match, say
            raise StoreError(f"store_url {self._shown} cannot be read: {error}") from error
        except ImportError as error:
            raise StoreError(
                f"the store {self._shown} needs psycopg: pip install 'jupyter-axon-notebooks[postgresql]' ({error})"
            ) from error
        check_can_be_opened(url)
        name_failures(engine, self._shown, lambda said: explain_refusal(url, said))

        @sa.event.listens_for(engine, "connect")
        def _prepare(connection: Any, record: Any) -> None:
            reads_wait = str(_milliseconds(self._read_timeout))
            _, durable, idle = connection.execute(_ON_CONNECT, [reads_wait]).fetchone()
            record.info["mark"] = new_id()
            record.info["begin"] = partial(
                _BEGIN.format,
                # Acknowledged means durable, whatever the database's default; a stronger one stays.
                synchronous_commit=durable if durable == "remote_apply" else "on",
                idle_timeout=_IDLE if idle == "0" else idle,
            )

        return engine

    def check(self) -> None:
        """Connect once: whatever is wrong is said at once, not after the patience that a restart is given."""
        with self.sql.connect() as connection:
            version = (
                int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000
            )
            if version < _OLDEST:
                raise StoreError(
                    f"the store {self._shown} is on PostgreSQL {version}; {_OLDEST} or newer is needed"
                )
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            if encoding != "UTF8":
                raise StoreError(
                    f"the database of the store {self._shown} is in {encoding}; create one with ENCODING 'UTF8'"
                )
            if self._read_only:
                return
            with suppress(StoreError):  # whoever may only read may open the store as well
                if (
                    connection.exec_driver_sql(f"SELECT to_regclass('{MARKS}')").scalar_one()
                    is not None
                ):
                    connection.exec_driver_sql(_FORGET_MARKS)

    def prepare(self, connection: sa.Connection) -> None:
        """Make the table of marks."""
        connection.exec_driver_sql(_MAKE_MARKS)

    def outdate(self, connection: sa.Connection, version: int) -> None:
        """Refuse the marks of older processes: without one nothing is committed, whenever it was begun."""
        connection.exec_driver_sql(_OUTDATE.format(version=version))

    def begin(self, connection: sa.Connection, patience: float) -> None:
        """Begin a unit of work."""
        connection.exec_driver_sql(connection.info["begin"](lock_timeout=_milliseconds(patience)))

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Begin several reads of one and the same moment."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def begin_read(self, connection: sa.Connection) -> None:
        """Nothing to do: the session's ``lock_timeout`` is that of reads."""

    def commit(self, connection: sa.Connection, *, wrote: bool) -> None:
        """Commit; where the answer is lost, find out what became of it."""
        if not wrote:
            connection.commit()
            return
        mine, unit = str(connection.info["mark"]), new_id()
        try:
            connection.exec_driver_sql(
                _COMMIT_WITH_MARK.format(connection=mine, unit=unit, version=self._version)
            )
        except Interrupted as error:
            if not connection.invalidated or not self._is_committed(mine, unit, error):
                raise

    def _is_committed(self, mark: str, unit: str, lost: Interrupted) -> bool:
        """Whether the unit whose answer was lost is there, asked as soon as the server can be.

        If it is not, it will not be.
        """
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                with self.sql.connect() as connection:
                    self.begin(connection, self._busy_timeout)
                    found = connection.exec_driver_sql(
                        _READ_MARK, (mark, self._version)
                    ).scalar_one()
                    connection.commit()
                    return bool(found == unit)
            except (AxonError, sa.exc.TimeoutError) as error:
                if not isinstance(error, Interrupted) or time.monotonic() + _PAUSE > deadline:
                    raise OutcomeUnknown(
                        f"the store {self._shown}: the connection was lost in the middle of a commit, and whether the "
                        f"last change was stored could not be found out ({error})"
                    ) from lost
                time.sleep(_PAUSE)

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Take the advisory lock that stands for ``name``."""
        digest = hashlib.sha256(f"axon {name}".encode(errors="surrogatepass")).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))

    def lock_table(self, connection: sa.Connection, table: sa.Table) -> None:
        """Keep other writers away; readers go on."""
        name = connection.dialect.identifier_preparer.format_table(table)
        connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")

    def change_marker(self, connection: sa.Connection) -> str:
        """Ask which transactions are visible: of the same ones, the same is read.

        Transactions in other databases of the server change it, too. The numbers of transactions may be given out anew
        after a crash, so a server's start belongs to it.
        """
        return str(connection.exec_driver_sql(_CHANGE_MARKER).scalar_one())

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.sql.dispose()

    def before_fork(self) -> None:
        """Nothing to close."""

    def after_fork_in_child(self) -> None:
        """Make connections of one's own; the parent's are kept, so that nothing closes them."""
        _inherited.append(self.sql)
        self.sql = self._create_engine()


# What children leave alone.
_inherited: list[sa.Engine] = []


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))  # 0 would be for ever


def _connect_arguments(url: sa.URL, busy_timeout: float) -> dict[str, Any]:
    arguments = {
        "connect_timeout": 10,
        # A server that vanished without a word is noticed, in a wait for an answer as in the middle of a message.
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": max(1000, int(busy_timeout * 1000)),
        "application_name": "jupyter-axon-notebooks",
    }
    given = {name: value for name, value in arguments.items() if name not in url.query}
    return {**given, "client_encoding": "utf8"}
