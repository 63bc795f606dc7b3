"""Trainings of several processes."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

#: Imports PyTorch once and forks the processes of each training.
LAUNCHER = """
import atexit, json, os, random, sys, traceback
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.fsdp, torch.distributed.optim, torch.distributed.tensor
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel
import jupyter_axon_notebooks as axon
import jupyter_axon_notebooks.training.api
from jupyter_axon_notebooks.training import distributed

def train(task):
    os.environ.update(task["env"])
    os.chdir(task["folder"])
    output = os.open(task["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1), os.dup2(output, 2)
    code = compile(task["code"], task["env"]["AXON_NOTEBOOK"], "exec")
    try:
        exec(code, globals())
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)

for line in sys.stdin:
    children = []
    for task in json.loads(line):
        child = os.fork()
        if not child:
            train(task)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    print(json.dumps([os.waitstatus_to_exitcode(status) for status in statuses]), flush=True)
"""
BEGIN = """
distributed.JOIN_TIMEOUT, distributed.RNG_TIMEOUT = 60.0, 60.0
results = {}

def draw():
    return [random.random(), float(np.random.random()), float(torch.rand(()))]

def attempt(name, work):
    try:
        results[name] = work()
    except Exception as error:
        results[name] = f"{type(error).__name__}: {error}"

def network():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))

def step(model, optimizer):
    batch = torch.randn(8, 4) * random.random() + float(np.random.random())
    loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", init_method=os.environ["INIT"], rank=rank, world_size=size)
"""
WRITE_RESULTS = """
with open(f"results-{rank}.json", "w") as file:
    json.dump(results, file)
dist.barrier()
"""
END = WRITE_RESULTS + "dist.destroy_process_group()\n"
#: Ends like a killed training: no process finishes its run.
KILL = WRITE_RESULTS + "sys.stdout.flush()\nos._exit(0)\n"


class ProcessLauncher:
    """Runs code like torchrun, each rank in a process of its own."""

    def __init__(self, launcher: subprocess.Popen[str], folder: Path) -> None:
        self.folder = folder
        self.output: list[str] = []
        self._launcher = launcher

    def run(
        self, code: str, *, ranks: int = 2, data_folders: list[str] | None = None, **env: str
    ) -> list[dict[str, Any]]:
        """Run ``code`` on all ranks, which may have own data folders, and return the results."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        outputs = [self.folder / f"output-{rank}.txt" for rank in range(ranks)]
        tasks = []
        for rank in range(ranks):
            folder = self.folder / (data_folders[rank] if data_folders else "data")
            folder.mkdir(exist_ok=True)
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "INIT": "env://",
                "AXON_NOTEBOOK": str(self.folder / "train.py"),
                "JUPYTER_DATA_DIR": str(folder),
                **env,
            }
            program = BEGIN + code + END
            tasks.append(
                {
                    "env": environment,
                    "folder": str(self.folder),
                    "output": str(outputs[rank]),
                    "code": program,
                }
            )
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(tasks) + "\n")
        self._launcher.stdin.flush()
        codes = json.loads(self._launcher.stdout.readline())
        self.output = [output.read_text() for output in outputs]
        assert codes == [0] * ranks, self.output
        return [
            json.loads((self.folder / f"results-{rank}.json").read_text()) for rank in range(ranks)
        ]

    def states(self) -> list[Path]:
        """Return the state files of models in all data folders."""
        return sorted(self.folder.glob("*/axon_notebooks/states/*/*/model.safetensors"))
