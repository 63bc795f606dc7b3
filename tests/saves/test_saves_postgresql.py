"""Several people's servers on one PostgreSQL database, as on a hub."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engines import new_url
from processes import Server, notebook

PEOPLE = ("ada", "bob", "eve")
PATHS = [f"{number}.ipynb" for number in range(4)]


def test_three_people_write_at_once_and_each_sees_their_own(
    servers: Callable[..., Server], tmp_path: Path
) -> None:
    # Nobody has made the tables yet: the servers meet in that as well.
    url = new_url("postgresql", tmp_path)

    def started(user: str) -> Server:
        config = {"AxonNotebooks": {"store_url": url, "user_id": user, "admin_users": ["root"]}}
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
            assert server.axon("GET", f"/notebooks/{others}").status == 403
        for id in own:
            assert len(server.axon("GET", f"/notebooks/{id}/checkpoints").json) == 5
            best = server.axon("GET", f"/notebooks/{id}/checkpoints/best").json
            assert best["epoch"] == 4
    listed = started("root").axon("GET", "/notebooks").json
    assert {record["id"] for record in listed} == set().union(*ids)
    assert {record["user_id"] for record in listed} == set(PEOPLE)
