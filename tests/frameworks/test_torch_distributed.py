"""Several processes resume one model from the same checkpoint, each with its random numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.distributed import KILL, ProcessLauncher

DDP = """
random.seed(rank), np.random.seed(rank), torch.manual_seed(rank)
state = torch.get_rng_state()
model = DistributedDataParallel(network())
torch.set_rng_state(state)
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
resumed = axon.resume(model, optimizer)
results["from"] = resumed and resumed.epoch
results["losses"] = []
for epoch in range(resumed.epoch + 1 if resumed else 0, int(os.environ["EPOCHS"])):
    results["losses"].append(step(model, optimizer))
    axon.checkpoint(model, optimizer, epoch=epoch)
results["drawn"] = draw()
"""


@pytest.mark.parametrize("channel", ["env://", "file"])
def test_each_rank_continues_its_random_numbers(launcher: ProcessLauncher, channel: str) -> None:
    def init(name: str) -> dict[str, str]:
        return {"INIT": channel if channel == "env://" else f"file://{launcher.folder}/{name}"}

    whole = launcher.run(DDP, EPOCHS="5", data_folders=["whole", "whole"], **init("a"))
    first = launcher.run(DDP + KILL, EPOCHS="3", **init("b"))
    rest = launcher.run(DDP, EPOCHS="5", **init("c"))
    for rank in range(2):
        assert (first[rank]["from"], rest[rank]["from"]) == (None, 2)
        assert first[rank]["losses"] + rest[rank]["losses"] == whole[rank]["losses"]
        assert rest[rank]["drawn"] == whole[rank]["drawn"]
    assert whole[0]["drawn"] != whole[1]["drawn"]
    assert "bit for bit" not in "".join(launcher.output)


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
results["drawn"] = draw()
"""


def test_a_checkpoint_of_rank_0_alone_waits_once_and_seeds_the_other_ranks(
    launcher: ProcessLauncher,
) -> None:
    launcher.run(ALONE + KILL)
    assert launcher.output[0].count("checkpoint() was called by 1 of 2 processes") == 1
    assert launcher.output[1] == ""
    results = launcher.run(RESUME + KILL)
    assert [one["epoch"] for one in results] == [1, 1]
    assert "Random numbers continue in 1 of 2 processes" in launcher.output[0]
    assert all(
        one != other for one, other in zip(results[0]["drawn"], results[1]["drawn"], strict=True)
    )
    again = launcher.run(
        "results['id'] = axon.latest().id\n"
        + RESUME.replace("resume(", "resume(checkpoint=results['id'], model=")
    )
    assert again[1]["drawn"] == results[1]["drawn"]


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (2, 1), (1, 2)])
def test_another_number_of_processes_is_reported(
    launcher: ProcessLauncher, before: int, after: int
) -> None:
    launcher.run(
        "random.seed(rank), np.random.seed(rank), torch.manual_seed(rank)\n"
        "axon.checkpoint(nn.Linear(2, 2), epoch=0)\nresults['drawn'] = draw()\n" + KILL,
        ranks=before,
    )
    results = launcher.run("axon.resume(nn.Linear(2, 2))\nresults['drawn'] = draw()\n", ranks=after)
    assert len({tuple(one["drawn"]) for one in results}) == after
    if before > 1:
        assert f"is of {before} processes, and this training has {after}" in launcher.output[0]
    message = f"Random numbers continue in {before} of {after} processes"
    assert (message in launcher.output[0]) == (after > before)


def test_ranks_without_a_shared_disk_fail(launcher: ProcessLauncher) -> None:
    folders = ["one", "other"]
    launcher.run("axon.checkpoint(network(), epoch=0)\n" + KILL, data_folders=folders)
    assert len(launcher.states()) == 1
    results = launcher.run(RESUME, data_folders=folders)
    assert "not found" in results[1]["epoch"]
    assert results[0]["epoch"].startswith(
        "RanksDisagree: resume() failed in every process because it failed on rank 1 on "
    )
    assert "have to share" in results[0]["epoch"]


def test_a_model_that_does_not_fit_fails_on_all_ranks(launcher: ProcessLauncher) -> None:
    launcher.run("axon.checkpoint(network(), epoch=0)\n" + KILL)
    results = launcher.run(
        "model = network() if rank == 0 else nn.Linear(3, 3)\n"
        + RESUME.replace("model = network()\n", "")
    )
    assert "InvalidData" in results[1]["epoch"]
    assert results[0]["epoch"].startswith(
        "RanksDisagree: resume() failed in every process because it failed on rank 1 on "
    )


def test_an_interrupted_rank_does_not_block_the_others(launcher: ProcessLauncher) -> None:
    code = """
class Counter:
    def state_dict(self):
        return {"count": 1}
    def load_state_dict(self, state):
        if rank == 1:
            raise KeyboardInterrupt
extra = {"counter": Counter()}
"""
    launcher.run(code + "axon.checkpoint(network(), epoch=0, extra=extra)\n" + KILL)
    resume = """
try:
    attempt("epoch", lambda: axon.resume(network(), extra=extra).epoch)
except KeyboardInterrupt:
    results["epoch"] = "interrupted"
"""
    results = launcher.run(code + resume)
    assert results[1]["epoch"] == "interrupted"
    assert results[0]["epoch"].startswith(
        "RanksDisagree: resume() failed in every process because it failed on rank 1"
    )


def test_without_a_checkpoint_all_ranks_start_anew(launcher: ProcessLauncher) -> None:
    assert [one["epoch"] for one in launcher.run(RESUME)] == [None, None]


def test_ranks_may_call_from_different_lines(launcher: ProcessLauncher) -> None:
    branches = """
def of_rank_0():
    return axon.resume(model, optimizer)
def of_others():
    return axon.resume(model, optimizer)
model = network()
optimizer = optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    draw()
    if rank == 0:
        axon.checkpoint(model, optimizer, epoch=epoch, metrics={"loss": 1.0})
    else:
        axon.checkpoint(model, optimizer, epoch=epoch)
results["next"] = draw()
"""
    before = launcher.run(branches + KILL)
    assert "checkpoint() was called by" not in launcher.output[0]
    resume = branches.partition("for epoch")[0] + (
        "attempt('epoch', lambda: (of_rank_0() if rank == 0 else of_others()).epoch)\n"
        "results['next'] = draw()\n"
    )
    assert launcher.run(resume) == [{"epoch": 2, "next": one["next"]} for one in before]


def test_a_second_checkpoint_of_rank_0_alone_waits_once(launcher: ProcessLauncher) -> None:
    both = """
model = network()
for epoch in range(3):
    draw()
    axon.checkpoint(model, epoch=epoch, step=epoch)
    if rank == 0:
        distributed.RNG_TIMEOUT = 0.5 if epoch == 0 else 1e9
        axon.checkpoint(model, epoch=epoch, step=epoch, tags="best")
        distributed.RNG_TIMEOUT = 60.0
results["next"] = draw()
"""
    before = launcher.run(both + KILL)
    after = launcher.run(
        "attempt('epoch', lambda: axon.resume(network()).epoch)\nresults['next'] = draw()\n"
    )
    assert [one["epoch"] for one in after] == [2, 2]
    assert [one["next"] for one in after] == [one["next"] for one in before]


def test_ranks_may_save_a_sharded_model_from_different_lines(launcher: ProcessLauncher) -> None:
    call = "    axon.checkpoint(model, epoch=0)\n"
    save = f"if rank == 0:\n{call}else:\n{call}"
    launcher.run(SHARDED + "distributed.JOIN_TIMEOUT = 5.0\n" + save + KILL)
    assert [one["epoch"] for one in launcher.run(RESUME)] == [0, 0]


@pytest.mark.parametrize("alone", [0, 1])
def test_a_resume_without_all_ranks_fails(launcher: ProcessLauncher, alone: int) -> None:
    launcher.run("axon.checkpoint(network(), epoch=0)\n" + KILL)
    results = launcher.run(
        "distributed.JOIN_TIMEOUT = 0.5\nmodel = network()\n"
        f"if rank == {alone}:\n    attempt('epoch', lambda: axon.resume(model))\n"
    )
    assert results[alone]["epoch"].startswith(
        "RanksDisagree: resume() has to be called in every process"
    )
    assert f"rank {1 - alone} did not" in results[alone]["epoch"]


def test_a_late_rank_gets_the_error_of_the_others(launcher: ProcessLauncher) -> None:
    code = (
        "distributed.JOIN_TIMEOUT = 0.5 if rank == 0 else 60.0\n"
        "model = network()\nif rank == 1:\n    dist.barrier()\n"
    )
    results = launcher.run(
        code + "attempt('epoch', lambda: axon.resume(model))\nif rank == 0:\n    dist.barrier()\n"
    )
    assert results[0]["epoch"] == results[1]["epoch"]
    assert "rank 1 did not" in results[1]["epoch"]


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
results["losses"] = []
for epoch in range(resumed.epoch + 1 if resumed else 0, int(os.environ["EPOCHS"])):
    results["losses"].append(step(model, optimizer))
    saved = axon.checkpoint(model, optimizer, epoch=epoch)
    assert (saved is None) == (rank > 0)
whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
results["weights"] = [float(p.double().sum()) for p in whole]
"""


@pytest.mark.parametrize("optimizer", ["AdamW", "Adagrad"])
def test_a_sharded_model_continues(launcher: ProcessLauncher, optimizer: str) -> None:
    whole = launcher.run(
        SHARDED + TRAIN, EPOCHS="4", OPTIMIZER=optimizer, data_folders=["whole", "whole"]
    )
    first = launcher.run(SHARDED + TRAIN + KILL, EPOCHS="2", OPTIMIZER=optimizer)
    rest = launcher.run(SHARDED + TRAIN, EPOCHS="4", OPTIMIZER=optimizer)
    for rank in range(2):
        assert len(first[rank]["losses"]) == len(rest[rank]["losses"]) == 2
        assert first[rank]["losses"] + rest[rank]["losses"] == whole[rank]["losses"]
        assert rest[rank]["weights"] == whole[rank]["weights"]
    assert {
        name: tuple(tensor.shape) for name, tensor in load_file(launcher.states()[0]).items()
    } == {
        "0.weight": (8, 4),
        "0.bias": (8,),
        "3.weight": (1, 8),
        "3.bias": (1,),
    }


def test_a_sharded_model_continues_with_other_numbers_of_processes(
    launcher: ProcessLauncher,
) -> None:
    first = launcher.run(SHARDED + TRAIN + KILL, EPOCHS="2")
    weights = first[0]["weights"]
    one = launcher.run(SHARDED + TRAIN + KILL, EPOCHS="2", WHOLE="1", ranks=1)
    assert one[0]["weights"] == weights
    assert launcher.run(SHARDED + TRAIN + KILL, EPOCHS="2", ranks=1)[0]["weights"] == weights
    more = launcher.run(SHARDED + TRAIN + KILL, EPOCHS="2", ranks=3)
    assert [one["weights"] for one in more] == [weights] * 3


def test_saving_a_sharded_model_without_all_ranks_fails(launcher: ProcessLauncher) -> None:
    save = "attempt('saved', lambda: axon.checkpoint(model, optimizer, epoch=0))\n"
    results = launcher.run(SHARDED + "distributed.JOIN_TIMEOUT = 0.5\nif rank == 0:\n    " + save)
    assert results[0]["saved"].startswith(
        "RanksDisagree: checkpoint() has to be called in every process"
    )
    assert launcher.states() == []


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
def test_tensor_parallel_models_continue(launcher: ProcessLauncher, ranks: int) -> None:
    whole = launcher.run(MESHES + TRAIN, EPOCHS="4", ranks=ranks, data_folders=["whole"] * ranks)
    first = launcher.run(MESHES + TRAIN + KILL, EPOCHS="2", ranks=ranks)
    rest = launcher.run(MESHES + TRAIN, EPOCHS="4", ranks=ranks)
    for rank in range(ranks):
        assert first[rank]["losses"] + rest[rank]["losses"] == whole[rank]["losses"]
        assert rest[rank]["weights"] == whole[rank]["weights"]


def test_one_rank_restores_its_part_without_the_others(launcher: ProcessLauncher) -> None:
    code = """
before = [p.to_local().clone() for p in model.parameters()]
axon.checkpoint(model, optimizer, epoch=0)
for p in model.parameters():
    p.data.mul_(3)
dist.barrier()
if rank == 0:
    axon.latest().restore(model, optimizer)
results["same"] = all(torch.equal(p.to_local(), old) for p, old in zip(model.parameters(), before))
"""
    assert launcher.run(SHARDED + code) == [{"same": True}, {"same": False}]


def test_a_value_that_one_rank_cannot_save_fails_on_all_ranks(launcher: ProcessLauncher) -> None:
    save = (
        "extra = object() if rank == 0 else None\n"
        "attempt('saved', lambda: axon.checkpoint(model, optimizer, epoch=0, extra=extra))\n"
    )
    results = launcher.run(SHARDED + save)
    assert results[0]["saved"].startswith("TypeError: extra")
    assert results[1]["saved"].startswith(
        "RanksDisagree: checkpoint() failed in every process because it failed on rank 0"
    )


def test_averages_of_a_sharded_model_are_restored(launcher: ProcessLauncher) -> None:
    code = """
extra = {"ema": [p.detach().clone() for p in model.parameters()], "note": "averaged"}
if os.environ["EPOCHS"] == "1":
    step(model, optimizer)
    for mean in extra["ema"]:
        mean.mul_(2)
    axon.checkpoint(model, optimizer, epoch=0, extra=extra)
else:
    resumed = axon.resume(model, optimizer, extra=extra)
    results["note"] = resumed.extra["note"]
results["ema"] = [float(mean.full_tensor().double().sum()) for mean in extra["ema"]]
"""
    saved = launcher.run(SHARDED + code + KILL, EPOCHS="1")
    back = launcher.run(SHARDED + code, EPOCHS="2")
    assert [one["ema"] for one in back] == [one["ema"] for one in saved]
    assert back[1]["note"] == "averaged"


UNSUPPORTED = {
    "FullyShardedDataParallel": "from torch.distributed.fsdp import FullyShardedDataParallel\n"
    "model = FullyShardedDataParallel(network(), device_id=torch.device('cpu'))\n"
    "optimizer = optim.SGD(model.parameters(), lr=0.1)\n",
    "ZeroRedundancyOptimizer": "from torch.distributed.optim import ZeroRedundancyOptimizer\n"
    "model = network()\n"
    "optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.SGD, lr=0.1)\n",
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_sharding_is_refused_on_all_ranks(launcher: ProcessLauncher, kind: str) -> None:
    save = "attempt('saved', lambda: axon.checkpoint(model, optimizer, epoch=0))\n"
    results = launcher.run(UNSUPPORTED[kind] + save)
    assert results[0]["saved"] == results[1]["saved"]
    assert f"{kind} is not supported" in results[0]["saved"]


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
            env={**inherited, "JUPYTER_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=150,
        )
    results = [
        json.loads((tmp_path / f"{name}-{rank}.json").read_text())
        for name in ("first", "second")
        for rank in (0, 1)
    ]
    assert [one[0] for one in results] == [None, None, 0, 0]
    assert [results[2][1], results[3][1]] == [results[0][2], results[1][2]]
