"""Tests of servers of several users on one PostgreSQL database, as on a hub."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url
from support.engines import eventually, new_url
from support.server_processes import Server, notebook

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store
from jupyter_axon_notebooks.store.postgresql.roles import Role

PEOPLE = ("ada", "bob", "eve")
PATHS = [f"{number}.ipynb" for number in range(4)]


def test_three_concurrent_users_see_their_own_records(
    servers: Callable[..., Server], tmp_path: Path
) -> None:
    url = new_url("postgresql", tmp_path)
    with closing(Store(url)) as store:
        store.separate_users(
            [*(Role(f"hub {user}", user) for user in PEOPLE), Role("hub root", "root", admin=True)]
        )

    def started(user: str) -> Server:
        own = make_url(url).set(username=f"hub {user}").render_as_string()
        config = {"AxonNotebooks": {"store_url": own, "user_id": user, "admin_users": ["root"]}}
        return servers(user, config=config)

    def work(server: Server) -> set[str]:
        for number in range(5):
            for path in PATHS:
                assert server.save(path, notebook(path, str(number))).status in (200, 201)
        ids = {server.assert_recorded(path)["id"] for path in PATHS}
        for id in ids:
            for epoch in range(5):
                new = {"epoch": epoch, "step": 0, "metrics": {"loss": 1 / (epoch + 1)}}
                assert server.axon("POST", f"/notebooks/{id}/checkpoints", new).status == 201
        return ids

    running = [started(user) for user in PEOPLE]
    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        ids = list(pool.map(work, running))
    assert len(set().union(*ids)) == len(PEOPLE) * len(PATHS)
    for server, own in zip(running, ids, strict=True):
        assert {listed["id"] for listed in server.axon("GET", "/notebooks").json} == own
        for others in set().union(*ids) - own:
            assert (
                server.axon("GET", f"/notebooks/{others}").status == 404
            )  # the server cannot see it either
        for id in own:
            assert len(server.axon("GET", f"/notebooks/{id}/checkpoints").json) == 5
            best = server.axon("GET", f"/notebooks/{id}/checkpoints/best").json
            assert best["epoch"] == 4
    root = started("root")
    listed = root.axon("GET", "/notebooks").json
    assert {record["id"] for record in listed} == set().union(*ids)
    assert {record["user_id"] for record in listed} == set(PEOPLE)
    for others in set().union(*ids):
        assert root.axon("GET", f"/notebooks/{others}").status == 200


def test_the_role_of_another_user_is_refused_while_saves_continue(
    servers: Callable[..., Server], tmp_path: Path
) -> None:
    url = make_url(new_url("postgresql", tmp_path))
    role = f"bobs_{url.database}"
    with closing(Store(url.render_as_string())) as store:
        store.separate_users([Role(role, "bob")])
        config = {"store_url": url.set(username=role).render_as_string(), "user_id": "ada"}
        server = servers(config={"AxonNotebooks": config})
        assert server.save("a.ipynb", notebook("a")).status == 201
        answer = server.axon("GET", "/notebooks")
        told = f"the role {role} stands for the user bob there, but the user here is ada"
        assert (answer.status, told in answer.body.decode()) == (503, True)
        assert told in server.log
        store.separate_users([Role(role, "ada")])
        eventually(lambda: server.axon("GET", "/notebooks").status == 200)
        eventually(lambda: NotebookRepository(store).count() == 1)
