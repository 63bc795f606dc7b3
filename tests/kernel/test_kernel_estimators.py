"""Estimators whose classes a notebook defines."""

from __future__ import annotations

import pytest
from support.engines import eventually
from support.server_kernels import kernel_of
from support.server_processes import notebook, write

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
        self.seen_ = getattr(self, "seen_", 0) + len(x)
        return self
    def transform(self, x):
        return x - self.mean_

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
head = MLPClassifier((4,), random_state=0)
model = make_pipeline(Centred(), head)
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


def test_a_pipeline_with_a_class_of_the_notebook_resumes_in_another_kernel(server):
    pytest.importorskip("skops")
    weights = {}
    for name, stops_at in (("killed", 2), ("whole", None)):
        path = f"estimators/{name}.ipynb"
        write(server.root / path, notebook(DEFINE, TRAIN))
        with kernel_of(server, path) as kernel:
            kernel.run(DEFINE)
            if stops_at is None:
                kernel.run(TRAIN.replace("STOPS_AT", "None"))
            else:
                kernel.begin(TRAIN.replace("STOPS_AT", str(stops_at)))
                eventually((server.root / "estimators" / "stopped").exists)
                kernel.kill()
        if stops_at is not None:
            with kernel_of(server, path) as kernel:
                kernel.run(DEFINE)
                kernel.run(TRAIN.replace("STOPS_AT", "None"))
                assert kernel.asked("[resumed.epoch, type(model[0]) is Centred]") == [1, True]
                weights[name] = kernel.asked("[model[0].seen_, model[1].coefs_[0].tolist()]")
        else:
            with kernel_of(server, path) as kernel:
                kernel.run(DEFINE)
                weights[name] = kernel.asked(
                    "[(back := axon.latest().restore()[0])[0].seen_, back[1].coefs_[0].tolist()]"
                )
    assert weights["killed"] == weights["whole"]
    assert weights["whole"][0] == 160
