"""Only the owner of a shared database can migrate it, and the users stay separated."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from support.engines import PostgresqlServer
from support.old_stores import STORES
from support.shared_database import DERIVED_TABLES, SharedDatabase, create_trained_notebook

from jupyter_axon_notebooks.errors import StoreError, StoreTooNew
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role
from jupyter_axon_notebooks.store.schema import SCHEMA_VERSION

#: Changes a database to schema version 2, which had no tables of runs' values and series.
AS_VERSION_2 = f"""
DROP TABLE {", ".join(DERIVED_TABLES[1:])};
ALTER TABLE axonml_notebooks DROP COLUMN name;
ALTER TABLE axonml_checkpoints DROP COLUMN state_size;
ALTER TABLE axonml_runs DROP COLUMN ended_at, DROP COLUMN lease_until, DROP COLUMN name,
    DROP COLUMN number, DROP COLUMN step_count;
DROP INDEX ix_axonml_runs_started_at_id;
UPDATE axon_properties SET value = '2' WHERE name = 'schema_version';
ALTER TABLE axon_commits DROP CONSTRAINT IF EXISTS axon_outdated
"""
#: Changes it further to version 1, in which run rows had the id of the run and no id check.
AS_VERSION_1 = f"""{AS_VERSION_2};
ALTER POLICY axon_own ON axonml_runs WITH CHECK (true);
UPDATE axonml_runs SET id = (document::jsonb) ->> 'id';
UPDATE axon_properties SET value = '1' WHERE name = 'schema_version'
"""
OWNERS = (("alice", "alice"), ("bob_role", "bob"))


@pytest.fixture(params=[AS_VERSION_1, AS_VERSION_2], ids=["version 1", "version 2"])
def older(shared: SharedDatabase, request: pytest.FixtureRequest) -> SharedDatabase:
    """A database of an older version with runs of alice and bob."""
    for role, user in OWNERS:
        with closing(Store(shared.url(role))) as store:
            create_trained_notebook(NotebookRepository(store), user)
    with closing(shared.sql("postgres")) as owner:
        owner.execute(request.param)
    return shared


def read_version(shared: SharedDatabase) -> str:
    query = "SELECT value FROM axon_properties WHERE name = 'schema_version'"
    with closing(shared.sql("postgres")) as owner:
        [version] = owner.execute(query).fetchone() or ()
    return str(version)


def test_a_user_cannot_migrate(older: SharedDatabase) -> None:
    before = read_version(older)
    message = f"has schema version {before}, .* uses {SCHEMA_VERSION}.*init-db.*this version"
    with pytest.raises(StoreError, match=message):
        Store(older.url("alice"))
    assert read_version(older) == before


def test_users_stay_separated_when_the_owner_migrates(older: SharedDatabase) -> None:
    Store(older.url("postgres")).close()
    assert read_version(older) == str(SCHEMA_VERSION)
    for role, user in OWNERS:
        with closing(Store(older.url(role))) as store, closing(older.sql(role)) as sql:
            repository = NotebookRepository(store)
            [found] = repository.runs.search(RunQuery(where="loss.max == 0.5")).runs
            assert (found.run.id, found.checkpoint_count) == (f"run of {user}", 1)
            rows = [Row(0, 0.0, {"acc": 1.0})]
            run = found.run.notebook_id, found.run.id
            repository.series.append(*run, rows, spool="s", begin=0, end=1)
            assert repository.series.read(*run, "acc").values.tolist() == [1.0]
            for table in DERIVED_TABLES:
                owners = sql.execute(f"SELECT DISTINCT notebook_id FROM {table}").fetchall()
                assert owners == [(found.run.notebook_id,)], table
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    sql.execute(f"TRUNCATE {table}")
    with closing(Store(older.url("boss"))) as store:
        assert NotebookRepository(store).runs.search(RunQuery()).total == 2


def test_a_store_of_version_2_gets_the_policies_when_its_users_are_separated(
    server: PostgresqlServer,
) -> None:
    name = server.new_database(empty=True)
    shared = SharedDatabase(server, name)
    with closing(shared.sql("postgres")) as owner:
        owner.execute((STORES / "version2.postgresql.sql").read_text(encoding="utf-8"))
        users = owner.execute("SELECT DISTINCT user_id FROM axonml_notebooks").fetchall()
    with closing(Store(shared.url("postgres"))) as store:
        store.separate_users([Role("old_owner", users[0][0]), Role("bob_role", "bob")])
    for role, count in (("old_owner", 2), ("bob_role", 0)):
        with closing(Store(shared.url(role))) as store:
            assert NotebookRepository(store).runs.search(RunQuery()).total == count


def test_a_user_is_told_of_a_newer_store(shared: SharedDatabase) -> None:
    newer = SCHEMA_VERSION + 1
    with closing(shared.sql("postgres")) as owner:
        owner.execute(f"UPDATE axon_properties SET value = '{newer}' WHERE name = 'schema_version'")
    message = f"has schema version {newer}, .*upgrade jupyter-axon-notebooks"
    with pytest.raises(StoreTooNew, match=message):
        Store(shared.url("alice"))
