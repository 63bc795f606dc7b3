"""A database that keeps users apart is brought up to date by its owner, and by nobody else."""

from __future__ import annotations

from contextlib import closing

import pytest
from support.shared_database import Shared, trained

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.records import NewCheckpoint, RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role

#: A database of version 1: runs had their own id as that of their document, and their policy did not mind which.
AS_VERSION_1 = """
UPDATE axonml_runs SET id = (document::jsonb) ->> 'id';
UPDATE axon_properties SET value = '1' WHERE name = 'schema_version';
ALTER POLICY axon_own ON axonml_runs WITH CHECK (true);
ALTER TABLE axon_commits DROP CONSTRAINT IF EXISTS axon_outdated
"""


@pytest.fixture
def older(shared: Shared) -> Shared:
    """A database of version 1 with a run of alice's and one of bob's."""
    for role, user in (("alice", "alice"), ("bob_role", "bob")):
        with closing(Store(shared.url(role))) as store:
            trained(NotebookRepository(store), user)
    with closing(shared.sql("postgres")) as owner:
        owner.execute(AS_VERSION_1)
    return shared


def test_a_user_is_told_that_the_owner_has_to_upgrade(older: Shared) -> None:
    with pytest.raises(StoreError, match="init-db"):
        Store(older.url("alice"))
    with closing(older.sql("postgres")) as owner:
        found = owner.execute(
            "SELECT value FROM axon_properties WHERE name = 'schema_version'"
        ).fetchall()
        assert found == [("1",)]


def test_everybodys_runs_are_found_after_the_owner_upgraded(older: Shared) -> None:
    with closing(Store(older.url("postgres"))) as store:
        store.separate_users([Role("alice", "alice")])
    for role, user in (("alice", "alice"), ("bob_role", "bob")):
        with closing(Store(older.url(role))) as store:
            repository = NotebookRepository(store)
            [notebook] = repository.list_all()
            run = repository.runs.get(notebook.id, f"run of {user}")
            assert run is not None
            assert repository.runs.list(notebook.id) == [run]
            repository.create_checkpoint(
                NewCheckpoint(
                    notebook_id=notebook.id, epoch=2, step=2, metrics={}, run_id="run of alice"
                )
            )
            assert repository.runs.count(notebook.id) == (1 if user == "alice" else 2)
            repository.runs.update_status(notebook.id, run.id, RunStatus.COMPLETED)
    with closing(older.sql("postgres")) as owner:
        checks = owner.execute(
            "SELECT pg_get_expr(polwithcheck, polrelid) FROM pg_policy WHERE polrelid = 'axonml_runs'::regclass"
        ).fetchall()
    assert "left" in checks[0][0].lower()
