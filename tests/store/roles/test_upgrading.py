"""Only the owner of a shared database can migrate it."""

from __future__ import annotations

from contextlib import closing

import pytest
from support.shared_database import SharedDatabase, create_trained_notebook

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

#: Changes a database to schema version 1, in which run rows had the id of the run and no id check.
AS_VERSION_1 = """
UPDATE axonml_runs SET id = (document::jsonb) ->> 'id';
UPDATE axon_properties SET value = '1' WHERE name = 'schema_version';
ALTER POLICY axon_own ON axonml_runs WITH CHECK (true);
ALTER TABLE axon_commits DROP CONSTRAINT IF EXISTS axon_outdated
"""


@pytest.fixture
def older(shared: SharedDatabase) -> SharedDatabase:
    """A database of version 1 with runs of alice and bob."""
    for role, user in (("alice", "alice"), ("bob_role", "bob")):
        with closing(Store(shared.url(role))) as store:
            create_trained_notebook(NotebookRepository(store), user)
    with closing(shared.sql("postgres")) as owner:
        owner.execute(AS_VERSION_1)
    return shared


def test_a_user_cannot_migrate(older: SharedDatabase) -> None:
    with pytest.raises(StoreError, match="init-db"):
        Store(older.url("alice"))
    with closing(older.sql("postgres")) as owner:
        found = owner.execute(
            "SELECT value FROM axon_properties WHERE name = 'schema_version'"
        ).fetchall()
        assert found == [("1",)]
