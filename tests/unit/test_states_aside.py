"""Claims about state files that go while their checkpoint stays: only its own are touched, and nothing is left of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_axon_notebooks.states import StateStorage


@pytest.fixture
def states(tmp_path: Path) -> StateStorage:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    return StateStorage(tmp_path / "link", store_id="s")


def write(states: StateStorage, part: str, content: bytes = b"weights") -> str:
    with states.open_writer("nb", "cp", part, format="torch") as writer:  # type: ignore[arg-type]
        writer.write(content)
        return writer.commit().path


def test_a_checkpoint_owns_what_was_written_for_it(states: StateStorage, tmp_path: Path) -> None:
    path = write(states, "model")
    assert states.owns(path, "nb", "cp")
    assert states.owns(path.replace("/link/", "/real/"), "nb", "cp")
    recorded_before_a_move = str(tmp_path / "nb" / "cp" / "model.pt")
    assert states.owns(recorded_before_a_move, "nb", "cp")
    for other in (
        path.replace("model.pt", "other.pt"),
        path.replace("/cp/", "/cp/../cp/"),
        str(tmp_path / "nb" / "cp" / "optimizer.pt"),
        "model.pt",
        "",
    ):
        assert not states.owns(other, "nb", "cp")
    assert not states.owns(path, "nb", "other")
    assert not states.owns(path, "nb/cp", "..")


def test_what_is_set_aside_is_removed_and_the_rest_stays(states: StateStorage) -> None:
    paths = {part: Path(write(states, part)) for part in ("model", "optimizer")}
    states.mark_recorded("nb", "cp")
    aside = states.stage_removal("nb", "cp", ["model.pt", "model.bin"])
    assert len(aside) == 1
    assert not paths["model"].exists()
    again = Path(write(states, "model", b"put back"))
    states.remove_staged("nb", "cp", aside)
    assert sorted(file.name for file in again.parent.glob("[!.]*")) == ["model.pt", "optimizer.pt"]
    assert again.read_bytes() == b"put back"
    states.mark_unrecorded("nb", "cp")
    states.remove_staged("nb", "cp", states.stage_removal("nb", "cp", ["model.pt", "optimizer.pt"]))
    assert list(Path(states.root).iterdir()) == []


@pytest.mark.parametrize("id", ["cp", "..", "a/b", "x" * 300])
def test_nothing_there_is_nothing_to_remove(states: StateStorage, id: str) -> None:
    assert states.stage_removal("nb", id, ["model.pt"]) == []
    states.remove_staged("nb", id, ["model.pt"])
