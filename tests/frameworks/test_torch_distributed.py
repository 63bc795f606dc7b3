"""Several processes that train one model: each goes on with its own random numbers, all from the same checkpoint, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.distributed import STOP, Nodes

DDP = """
random.seed(rank), np.random.seed(rank), torch.manual_seed(rank)
state = torch.get_rng_state()
model = DistributedDataParallel(network())
torch.set_rng_state(state)
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
resumed = axon.resume(model, optimizer)
told["from"] = resumed and resumed.epoch
told["losses"] = []
for epoch in range(resumed.epoch + 1 if resumed else 0, int(os.environ["EPOCHS"])):
    told["losses"].append(step(model, optimizer))
    axon.checkpoint(model, optimizer, epoch=epoch)
told["drawn"] = draw()
"""


@pytest.mark.parametrize("channel", ["env://", "file"])
def test_each_rank_goes_on_with_its_own_random_numbers(nodes: Nodes, channel: str) -> None:
    def init(name: str) -> dict[str, str]:
        return {"INIT": channel if channel == "env://" else f"file://{nodes.folder}/{name}"}

    whole = nodes.run(DDP, EPOCHS="5", homes=["whole", "whole"], **init("a"))
    first = nodes.run(DDP + STOP, EPOCHS="3", **init("b"))
    rest = nodes.run(DDP, EPOCHS="5", **init("c"))
    for rank in range(2):
        assert (first[rank]["from"], rest[rank]["from"]) == (None, 2)
        assert first[rank]["losses"] + rest[rank]["losses"] == whole[rank]["losses"]
        assert rest[rank]["drawn"] == whole[rank]["drawn"]
    assert whole[0]["drawn"] != whole[1]["drawn"]
    assert "bit for bit" not in "".join(nodes.output)


ALONE = """
model = network()
random.seed(rank), np.random.seed(rank), torch.manual_seed(rank)
distributed.RNG_TIMEOUT = 0.5
for epoch in range(2):
    if rank == 0:
        axon.checkpoint(model, epoch=epoch)
    dist.barrier()
"""
RESUME = """
model = network()
attempt("epoch", lambda: (resumed := axon.resume(model)) and resumed.epoch)
told["drawn"] = draw()
"""


def test_a_checkpoint_of_rank_0_alone_waits_once_and_leaves_no_two_ranks_with_one_sequence(
    nodes: Nodes,
) -> None:
    nodes.run(ALONE + STOP)
    assert nodes.output[0].count("checkpoint() was called by 1 of 2 processes") == 1
    assert nodes.output[1] == ""
    told = nodes.run(RESUME + STOP)
    assert [one["epoch"] for one in told] == [1, 1]
    assert "Random numbers continue in 1 of 2 processes" in nodes.output[0]
    assert all(one != other for one, other in zip(told[0]["drawn"], told[1]["drawn"], strict=True))
    again = nodes.run(
        "told['id'] = axon.latest().id\n"
        + RESUME.replace("resume(", "resume(checkpoint=told['id'], model=")
    )
    assert again[1]["drawn"] == told[1]["drawn"]


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (2, 1), (1, 2)])
def test_another_number_of_processes_is_told_of_and_all_draw_different_numbers(
    nodes: Nodes, before: int, after: int
) -> None:
    nodes.run(
        "random.seed(rank), np.random.seed(rank), torch.manual_seed(rank)\n"
        "axon.checkpoint(nn.Linear(2, 2), epoch=0)\ntold['drawn'] = draw()\n" + STOP,
        ranks=before,
    )
    told = nodes.run("axon.resume(nn.Linear(2, 2))\ntold['drawn'] = draw()\n", ranks=after)
    assert len({tuple(one["drawn"]) for one in told}) == after
    if before > 1:
        assert f"is of {before} processes, and this training has {after}" in nodes.output[0]
    anew = f"Random numbers continue in {before} of {after} processes"
    assert (anew in nodes.output[0]) == (after > before)


def test_ranks_without_a_shared_disk_fail_by_name_instead_of_training_apart(nodes: Nodes) -> None:
    homes = ["one", "other"]
    nodes.run("axon.checkpoint(network(), epoch=0)\n" + STOP, homes=homes)
    assert len(nodes.states()) == 1
    told = nodes.run(RESUME, homes=homes)
    assert "not found" in told[1]["epoch"]
    assert told[0]["epoch"].startswith(
        "RanksDisagree: resume() failed in every process because it failed on rank 1 on "
    )
    assert "have to share" in told[0]["epoch"]


def test_a_rank_whose_model_does_not_fit_fails_on_all_ranks(nodes: Nodes) -> None:
    nodes.run("axon.checkpoint(network(), epoch=0)\n" + STOP)
    told = nodes.run(
        "model = network() if rank == 0 else nn.Linear(3, 3)\n"
        + RESUME.replace("model = network()\n", "")
    )
    assert "InvalidData" in told[1]["epoch"]
    assert told[0]["epoch"].startswith(
        "RanksDisagree: resume() failed in every process because it failed on rank 1 on "
    )


def test_a_rank_that_is_interrupted_keeps_no_other_waiting(nodes: Nodes) -> None:
    code = """
class Counter:
    def state_dict(self):
        return {"count": 1}
    def load_state_dict(self, state):
        if rank == 1:
            raise KeyboardInterrupt
extra = {"counter": Counter()}
"""
    nodes.run(code + "axon.checkpoint(network(), epoch=0, extra=extra)\n" + STOP)
    resume = """
try:
    attempt("epoch", lambda: axon.resume(network(), extra=extra).epoch)
except KeyboardInterrupt:
    told["epoch"] = "interrupted"
"""
    told = nodes.run(code + resume)
    assert told[1]["epoch"] == "interrupted"
    assert told[0]["epoch"].startswith(
        "RanksDisagree: resume() failed in every process because it failed on rank 1"
    )


def test_training_begins_anew_on_all_ranks_where_rank_0_has_nothing(nodes: Nodes) -> None:
    assert [one["epoch"] for one in nodes.run(RESUME)] == [None, None]


def test_ranks_may_call_from_different_lines(nodes: Nodes) -> None:
    branches = """
def of_rank_0():
    return axon.resume(model, optimizer)
def of_others():
    return axon.resume(model, optimizer)
made = network()
model, optimizer = made, optim.SGD(made.parameters(), lr=0.1)
for epoch in range(3):
    draw()
    if rank == 0:
        axon.checkpoint(model, optimizer, epoch=epoch, metrics={"loss": 1.0})
    else:
        axon.checkpoint(model, optimizer, epoch=epoch)
told["next"] = draw()
"""
    before = nodes.run(branches + STOP)
    assert "checkpoint() was called by" not in nodes.output[0]
    resume = branches.partition("for epoch")[0] + (
        "attempt('epoch', lambda: (of_rank_0() if rank == 0 else of_others()).epoch)\ntold['next'] = draw()\n"
    )
    assert nodes.run(resume) == [{"epoch": 2, "next": one["next"]} for one in before]


def test_what_rank_0_alone_adds_at_a_position_is_waited_for_once(nodes: Nodes) -> None:
    both = """
model = network()
for epoch in range(3):
    draw()
    axon.checkpoint(model, epoch=epoch, step=epoch)
    if rank == 0:
        distributed.RNG_TIMEOUT = 0.5 if epoch == 0 else 1e9
        axon.checkpoint(model, epoch=epoch, step=epoch, tags="best")
        distributed.RNG_TIMEOUT = 60.0
told["next"] = draw()
"""
    before = nodes.run(both + STOP)
    after = nodes.run(
        "attempt('epoch', lambda: axon.resume(network()).epoch)\ntold['next'] = draw()\n"
    )
    assert [one["epoch"] for one in after] == [2, 2]
    assert [one["next"] for one in after] == [one["next"] for one in before]


def test_ranks_may_save_a_sharded_model_from_different_lines(nodes: Nodes) -> None:
    save = "if rank == 0:\n    axon.checkpoint(model, epoch=0)\nelse:\n    axon.checkpoint(model, epoch=0)\n"
    nodes.run(SHARDED + "distributed.JOIN_TIMEOUT = 5.0\n" + save + STOP)
    assert [one["epoch"] for one in nodes.run(RESUME)] == [0, 0]


@pytest.mark.parametrize("alone", [0, 1])
def test_a_resume_that_not_every_rank_calls_ends_in_an_error(nodes: Nodes, alone: int) -> None:
    nodes.run("axon.checkpoint(network(), epoch=0)\n" + STOP)
    told = nodes.run(
        f"distributed.JOIN_TIMEOUT = 0.5\nmodel = network()\nif rank == {alone}:\n    attempt('epoch', lambda: axon.resume(model))\n"
    )
    assert told[alone]["epoch"].startswith(
        "RanksDisagree: resume() has to be called in every process"
    )
    assert f"rank {1 - alone} did not" in told[alone]["epoch"]


def test_a_rank_that_comes_too_late_gets_the_error_of_the_others(nodes: Nodes) -> None:
    code = "distributed.JOIN_TIMEOUT = 0.5 if rank == 0 else 60.0\nmodel = network()\nif rank == 1:\n    dist.barrier()\n"
    told = nodes.run(
        code + "attempt('epoch', lambda: axon.resume(model))\nif rank == 0:\n    dist.barrier()\n"
    )
    assert told[0]["epoch"] == told[1]["epoch"]
    assert "rank 1 did not" in told[1]["epoch"]


SHARDED = """
from torch.distributed.fsdp import fully_shard
random.seed(rank), np.random.seed(rank), torch.manual_seed(rank)
state = torch.get_rng_state()
model = network()
if os.environ.get("WHOLE") is None:
    fully_shard(model[0])
    fully_shard(model)
torch.set_rng_state(state)
optimizer = getattr(optim, os.environ.get("OPTIMIZER", "AdamW"))(model.parameters(), lr=0.05)
"""
TRAIN = """
resumed = axon.resume(model, optimizer)
told["losses"] = []
for epoch in range(resumed.epoch + 1 if resumed else 0, int(os.environ["EPOCHS"])):
    told["losses"].append(step(model, optimizer))
    made = axon.checkpoint(model, optimizer, epoch=epoch)
    assert (made is None) == (rank > 0)
told["weights"] = [float(p.full_tensor().double().sum()) if hasattr(p, "full_tensor") else float(p.double().sum()) for p in model.parameters()]
"""


@pytest.mark.parametrize("optimizer", ["AdamW", "Adagrad"])
def test_a_sharded_model_goes_on_as_if_it_had_never_stopped(nodes: Nodes, optimizer: str) -> None:
    whole = nodes.run(SHARDED + TRAIN, EPOCHS="4", OPTIMIZER=optimizer, homes=["whole", "whole"])
    first = nodes.run(SHARDED + TRAIN + STOP, EPOCHS="2", OPTIMIZER=optimizer)
    rest = nodes.run(SHARDED + TRAIN, EPOCHS="4", OPTIMIZER=optimizer)
    for rank in range(2):
        assert len(first[rank]["losses"]) == len(rest[rank]["losses"]) == 2
        assert first[rank]["losses"] + rest[rank]["losses"] == whole[rank]["losses"]
        assert rest[rank]["weights"] == whole[rank]["weights"]
    assert {name: tuple(tensor.shape) for name, tensor in load_file(nodes.states()[0]).items()} == {
        "0.weight": (8, 4),
        "0.bias": (8,),
        "3.weight": (1, 8),
        "3.bias": (1,),
    }


def test_a_sharded_model_goes_on_in_one_process_and_back_in_three(nodes: Nodes) -> None:
    first = nodes.run(SHARDED + TRAIN + STOP, EPOCHS="2")
    weights = first[0]["weights"]
    one = nodes.run(SHARDED + TRAIN + STOP, EPOCHS="2", WHOLE="1", ranks=1)
    assert one[0]["weights"] == weights
    assert nodes.run(SHARDED + TRAIN + STOP, EPOCHS="2", ranks=1)[0]["weights"] == weights
    more = nodes.run(SHARDED + TRAIN + STOP, EPOCHS="2", ranks=3)
    assert [told["weights"] for told in more] == [weights] * 3


def test_a_sharded_model_that_not_every_rank_saves_ends_in_an_error(nodes: Nodes) -> None:
    save = "attempt('made', lambda: axon.checkpoint(model, optimizer, epoch=0))\n"
    told = nodes.run(SHARDED + "distributed.JOIN_TIMEOUT = 0.5\nif rank == 0:\n    " + save)
    assert told[0]["made"].startswith(
        "RanksDisagree: checkpoint() has to be called in every process"
    )
    assert nodes.states() == []


MESHES = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
random.seed(1), np.random.seed(1), torch.manual_seed(1)
state = torch.get_rng_state()
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
mesh = init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("data", "tensor"))
parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
if size > 2:
    fully_shard(model, mesh=mesh["data"])
torch.set_rng_state(state)
optimizer = optim.AdamW(model.parameters(), lr=0.05)
"""


@pytest.mark.parametrize("ranks", [2, 4])
def test_tensor_parallel_models_go_on_alone_and_sharded(nodes: Nodes, ranks: int) -> None:
    whole = nodes.run(MESHES + TRAIN, EPOCHS="4", ranks=ranks, homes=["whole"] * ranks)
    first = nodes.run(MESHES + TRAIN + STOP, EPOCHS="2", ranks=ranks)
    rest = nodes.run(MESHES + TRAIN, EPOCHS="4", ranks=ranks)
    for rank in range(ranks):
        assert first[rank]["losses"] + rest[rank]["losses"] == whole[rank]["losses"]
        assert rest[rank]["weights"] == whole[rank]["weights"]


def test_one_rank_restores_its_part_of_a_sharded_model_without_the_others(nodes: Nodes) -> None:
    code = """
before = [p.to_local().clone() for p in model.parameters()]
axon.checkpoint(model, optimizer, epoch=0)
for p in model.parameters():
    p.data.mul_(3)
dist.barrier()
if rank == 0:
    axon.latest().restore(model, optimizer)
told["same"] = all(torch.equal(p.to_local(), old) for p, old in zip(model.parameters(), before))
"""
    assert nodes.run(SHARDED + code) == [{"same": True}, {"same": False}]


def test_what_a_rank_cannot_save_of_a_sharded_model_fails_on_all_ranks(nodes: Nodes) -> None:
    save = "attempt('made', lambda: axon.checkpoint(model, optimizer, epoch=0, extra=object() if rank == 0 else None))\n"
    told = nodes.run(SHARDED + save)
    assert told[0]["made"].startswith("TypeError: extra")
    assert told[1]["made"].startswith(
        "RanksDisagree: checkpoint() failed in every process because it failed on rank 0"
    )


def test_averages_of_a_sharded_model_are_kept_and_restored(nodes: Nodes) -> None:
    code = """
extra = {"ema": [p.detach().clone() for p in model.parameters()], "note": "averaged"}
if os.environ["EPOCHS"] == "1":
    step(model, optimizer)
    for mean in extra["ema"]:
        mean.mul_(2)
    axon.checkpoint(model, optimizer, epoch=0, extra=extra)
else:
    resumed = axon.resume(model, optimizer, extra=extra)
    told["note"] = resumed.extra["note"]
told["ema"] = [float(mean.full_tensor().double().sum()) for mean in extra["ema"]]
"""
    saved = nodes.run(SHARDED + code + STOP, EPOCHS="1")
    back = nodes.run(SHARDED + code, EPOCHS="2")
    assert [one["ema"] for one in back] == [one["ema"] for one in saved]
    assert back[1]["note"] == "averaged"


UNSUPPORTED = {
    "FullyShardedDataParallel": "from torch.distributed.fsdp import FullyShardedDataParallel as FSDP\n"
    "model = FSDP(network(), device_id=torch.device('cpu'))\noptimizer = optim.SGD(model.parameters(), lr=0.1)\n",
    "ZeroRedundancyOptimizer": "from torch.distributed.optim import ZeroRedundancyOptimizer\nmodel = network()\n"
    "optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.SGD, lr=0.1)\n",
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_what_is_sharded_in_another_way_is_refused_on_all_ranks(nodes: Nodes, kind: str) -> None:
    save = "attempt('made', lambda: axon.checkpoint(model, optimizer, epoch=0))\n"
    told = nodes.run(UNSUPPORTED[kind] + save)
    assert told[0]["made"] == told[1]["made"]
    assert f"{kind} is not supported" in told[0]["made"]


def test_torchrun_trains_and_resumes_two_ranks(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("""
import json, os, sys
import torch, torch.distributed as dist
import jupyter_axon_notebooks as axon
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = torch.nn.Linear(2, 2)
resumed = axon.resume(model)
drawn = float(torch.rand(()))
axon.checkpoint(model, epoch=resumed.epoch + 1 if resumed else 0)
with open(f"{sys.argv[1]}-{dist.get_rank()}.json", "w") as file:
    json.dump([resumed and resumed.epoch, drawn, float(torch.rand(()))], file)
dist.barrier()
if resumed is None:
    os._exit(0)
dist.destroy_process_group()
""")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AXON_")}
    for name in ("first", "second"):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node=2",
                script,
                name,
            ],
            cwd=tmp_path,
            env={**inherited, "JUPYTER_DATA_DIR": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=150,
        )
    told = [
        json.loads((tmp_path / f"{name}-{rank}.json").read_text())
        for name in ("first", "second")
        for rank in (0, 1)
    ]
    assert [one[0] for one in told] == [None, None, 0, 0]
    assert [told[2][1], told[3][1]] == [told[0][2], told[1][2]]
