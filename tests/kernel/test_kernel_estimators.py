"""Estimators whose classes a notebook defines."""

from __future__ import annotations

import pytest
from support.engines import eventually
from support.server_kernels import session_kernel
from support.server_processes import Server, notebook, write

DEFINE = """
import pathlib, threading
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
import jupyter_axon_notebooks as axon

class Centred(BaseEstimator):
    def fit(self, x, y=None):
        self.mean_ = x.mean(0)
        self.count_ = getattr(self, "count_", 0) + len(x)
        return self
    def transform(self, x):
        return x - self.mean_

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
model = make_pipeline(Centred(), MLPClassifier((4,), random_state=0))
"""
TRAIN = """
resumed = axon.resume(model)
for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
    if epoch == STOPS_AT:
        pathlib.Path("stopped").touch()
        threading.Event().wait()
    model[0].fit(X)
    model[1].partial_fit(model[0].transform(X), Y, classes=[0, 1])
    axon.checkpoint(model, epoch=epoch)
"""
TRAIN_TO_THE_END = TRAIN.replace("STOPS_AT", "None")
RESULT = "[model[0].count_, model[1].coefs_[0].tolist()]"


def test_a_pipeline_with_a_class_of_the_notebook_resumes_in_another_kernel(server: Server) -> None:
    pytest.importorskip("skops")
    killed, uninterrupted = "estimators/killed.ipynb", "estimators/uninterrupted.ipynb"
    for path in (killed, uninterrupted):
        write(server.root / path, notebook(DEFINE, TRAIN))
    with session_kernel(server, killed) as kernel:
        kernel.execute(DEFINE)
        kernel.send(TRAIN.replace("STOPS_AT", "2"))
        eventually((server.root / "estimators" / "stopped").exists)
        kernel.kill()
    with session_kernel(server, killed) as kernel:
        kernel.execute(DEFINE)
        kernel.execute(TRAIN_TO_THE_END)
        assert kernel.evaluate("(resumed.epoch, type(model[0]) is Centred)") == (1, True)
        resumed = kernel.evaluate(RESULT)
    with session_kernel(server, uninterrupted) as kernel:
        kernel.execute(DEFINE)
        kernel.execute(TRAIN_TO_THE_END)
    with session_kernel(server, uninterrupted) as kernel:
        kernel.execute(f"{DEFINE}\nmodel = axon.latest().restore()[0]")
        assert kernel.evaluate(RESULT) == resumed
    assert resumed[0] == 160
