"""The flags of notebooks that ran several times in one kernel."""

from __future__ import annotations

import pytest

from jupyter_axon_notebooks.provenance import ExecutedCell, Flag
from jupyter_axon_notebooks.records import CellType, NotebookCell
from jupyter_axon_notebooks.repository.flags import SavedCells, find_flags

#: Sets the seeds of what the notebook uses, which ``train`` draws from, in several ways.
SEEDED = {
    "torch, a subclass": (
        "import torch\nfrom torch import nn",
        "torch.manual_seed(0)\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.layer = nn.Linear(1, 1)",
        "model = Net()\nfor epoch in range(3):\n    print(epoch)\n    model(epoch)",
    ),
    "torch, an explicit generator": (
        "import torch\nfrom torch.utils.data import random_split",
        "g = torch.Generator()\ng.manual_seed(0)",
        "x = torch.randn(3, generator=g)\ntrain, _ = random_split(x, [2, 1], generator=g)",
    ),
    "sklearn, estimators that do not draw": (
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.model_selection import GridSearchCV, KFold",
        "model = LogisticRegression()",
        "GridSearchCV(model, {'C': [1]}, cv=KFold(5)).fit([[1]], [1])",
    ),
    "a trainer of transformers": (
        "from transformers import Trainer, TrainingArguments",
        "arguments = TrainingArguments(seed=42)\n\n\ndef build():\n    return object()",
        "trainer = Trainer(model_init=build, args=arguments)\ntrainer.train()",
    ),
    "python": ("import random", "random.seed(1)", "x = random.random()"),
    "numpy": ("import numpy as np", "np.random.seed(0)", "x = np.random.rand(3)"),
    "from numpy": ("from numpy import random as r", "r.seed(seed=0)", "x = r.normal()"),
    "a generator": ("import numpy as np", "rng = np.random.default_rng(0)", "x = rng.normal()"),
    "an explicit state": (
        "from sklearn.ensemble import RandomForestClassifier",
        "model = RandomForestClassifier(random_state=0)",
        "model.fit([[1]], [1])",
    ),
    "torch": (
        "import torch\nfrom torch import nn",
        "device = torch.device('cpu')\ntorch.manual_seed(0)",
        "model = nn.Linear(2, 1).to(device)\nx = model(torch.randn(3, 2))",
    ),
    "jax": (
        "import jax",
        "key = jax.random.key(0)",
        "key, other = jax.random.split(key)\nx = jax.random.normal(other)",
    ),
    "tensorflow": (
        "import tensorflow as tf",
        "tf.random.set_seed(1)",
        "model = tf.keras.Sequential([tf.keras.layers.Dense(1)])\nmodel.fit(tf.random.normal(()))",
    ),
    "keras": (
        "import keras\nimport numpy as np",
        "keras.utils.set_random_seed(1)",
        "model = keras.Sequential()\nmodel.fit(np.random.rand(3))",
    ),
    "lightning": (
        "import lightning as L\nimport numpy as np, random, torch",
        "L.seed_everything(42, workers=True)",
        "x = np.random.rand() + random.random() + torch.rand(1)\nL.Trainer().fit(x)",
    ),
    "transformers": (
        "from transformers import AutoModel, AutoTokenizer, set_seed\nimport numpy as np",
        "tokenizer = AutoTokenizer.from_pretrained('x')\nset_seed(1)",
        "model = AutoModel.from_pretrained('x')\nx = np.random.rand()",
    ),
    "a function of the notebook": (
        "import random\nimport numpy as np\nimport torch\n"
        "def fix(seed):\n    random.seed(seed)\n    np.random.seed(seed)\n"
        "    torch.manual_seed(seed)",
        "fix(3)",
        "x = random.random() + np.random.rand() + torch.rand(1)",
    ),
    "a function of a module": (
        "import numpy as np\nfrom helpers import seed_everything",
        "seed_everything(0)",
        "x = np.random.rand()",
    ),
    **{
        name: (f"import numpy as np\nfrom helpers import {name}", f"{name}(0)",
               "x = np.random.rand(3)")
        for name in ("seed_all", "set_seeds", "set_random_seed", "setRandomSeed", "fix_seed",
                     "manual_seed", "reseed", "_seedEverything", "init_seeds")
    },
    "the training cell": ("import numpy as np", "n = 3", "np.random.seed(0)\nx = np.random.rand()"),
    "fastai": (
        "from fastai.vision.all import *",
        "set_seed(42)\ndls = ImageDataLoaders.from_name_func(path, valid_pct=0.2)",
        "learn = vision_learner(dls, resnet34)\nlearn.fine_tune(1)",
    ),
    "all names of a module": (
        "import numpy as np\nfrom helpers import *",
        "seed_everything(0)\nmodel = Model.build()",
        "x = np.random.rand()\nTrainer.fit(model, x)",
    ),
    "all names of torch": (
        "import torch\nfrom torch.nn import *",
        "torch.manual_seed(0)\nmodel = Sequential(Linear(1, 1))",
        "model(torch.ones(1))",
    ),
    "pylab": ("%pylab inline", "seed(0)\nx = rand(3)", "x = x.mean() + np.random.rand()"),
    "an object of the kernel": ("import math", "df = spark.sql('x')", "x = spark.count(df)"),
    "nothing random": ("import math", "data = [1, 2]", "x = math.fsum(data)"),
    "magics": ("%matplotlib inline\nimport numpy as np", "%%time\nnp.random.seed(0)",
               "%time x = np.random.rand(3)"),
    "a shell command": ("import numpy as np", "!python make_data.py\nnp.random.seed(0)",
                        "x = np.random.rand(3)"),
}  # fmt: skip
#: Draws random numbers without a seed, or with one that is set too late.
UNSEEDED = {
    "sklearn, an option that draws": (
        "NumPy",
        "from sklearn.model_selection import KFold",
        "folds = 5",
        "list(KFold(folds, shuffle=True).split([1, 2]))",
    ),
    "python": ("Python", "import random", "n = 3", "x = random.random()"),
    "numpy": ("NumPy", "import numpy as np", "n = 3", "x = np.random.rand(3)"),
    "without a number": ("NumPy", "import numpy as np", "np.random.seed()", "x = np.random.rand()"),
    "too late": (
        "NumPy",
        "import numpy as np",
        "data = np.random.rand()",
        "np.random.seed(0)\nx = np.random.rand()",
    ),
    "a function that is not called": (
        "NumPy",
        "import numpy as np\ndef fix():\n    np.random.seed(0)",
        "n = 3",
        "x = np.random.rand()",
    ),
    **{
        f"{name}()": ("NumPy", "import numpy as np\nfrom helpers import *", f"seed = {name}('a')",
                      "x = np.random.rand()")
        for name in ("load_seeds", "get_seed", "initial_seed", "random_seed", "seeded", "SeedBank")
    },
    "another generator": ("NumPy", "import numpy as np, random", "random.seed(0)",
                          "x = np.random.rand()"),
    "torch": (
        "PyTorch",
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        self.layer = torch.nn.Linear(1, 1)",
        "model = Net()",
        "loss = model(torch.ones(3))",
    ),
    "fastai": (
        "PyTorch",
        "from fastai.vision.all import *",
        "dls = ImageDataLoaders.from_name_func(path)",
        "learn = vision_learner(dls, resnet34)\nlearn.fine_tune(1)",
    ),
    "all names of a module": (
        "NumPy",
        "from numpy import *",
        "n = 3",
        "x = random.rand(n)",
    ),
    "a graphics card only": (
        "PyTorch",
        "import torch",
        "torch.cuda.manual_seed_all(0)",
        "x = torch.rand(1)",
    ),
    "keras": ("TensorFlow", "import keras", "model = keras.Sequential()", "model.fit(1)"),
    "sklearn": (
        "NumPy",
        "from sklearn.model_selection import train_test_split",
        "data = train_test_split([1, 2])",
        "x = sum(data)",
    ),
    "pandas": ("NumPy", "import pandas as pd", "df = pd.DataFrame()", "x = df.sample(frac=1)"),
}  # fmt: skip


class Kernel:
    """A kernel that executes the cells of a notebook."""

    def __init__(self, *sources: str) -> None:
        self.cells = [
            NotebookCell(id="title", source="# A training", cell_type=CellType.MARKDOWN),
            *(NotebookCell(id=f"c{number}", source=one) for number, one in enumerate(sources)),
            NotebookCell(id="empty", source=" \n"),
        ]
        self.executed: list[ExecutedCell] = []

    def run(self, *ids: str, sends_ids: bool = True) -> None:
        for id in ids:
            source = next(cell.source for cell in self.cells if cell.id == id)
            self.execute(source, id if sends_ids else None)

    def execute(self, source: str, id: str | None = None) -> None:
        count = len(self.executed) + 1
        cell = ExecutedCell(source=source, cell_id=id, execution_count=count)
        self.executed.append(cell)

    def edit(self, id: str, source: str) -> None:
        cell = next(cell for cell in self.cells if cell.id == id)
        self.cells[self.cells.index(cell)] = NotebookCell(id=id, source=source)

    def flags(self) -> list[Flag]:
        saved = SavedCells(self.cells)
        return find_flags(self.executed, saved, saved)

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(flag.kind.value, flag.cell_id) for flag in self.flags()]


@pytest.mark.parametrize("sends_ids", [True, False])
@pytest.mark.parametrize("sources", SEEDED.values(), ids=SEEDED)
def test_running_all_again_is_clean_if_seeds_are_set(
    sources: tuple[str, ...], sends_ids: bool
) -> None:
    kernel = Kernel(*sources, "plot(x)")
    for _ in range(3):
        kernel.run("c0", "c1", "c2", sends_ids=sends_ids)
        assert kernel.flags() == []
        kernel.run("c3", sends_ids=sends_ids)
    kernel.run("c1", "c2", sends_ids=sends_ids)  # without the imports
    assert kernel.flags() == []


@pytest.mark.parametrize(
    ("generator", "sources"), [(one[0], one[1:]) for one in UNSEEDED.values()], ids=UNSEEDED
)
def test_running_all_again_continues_the_random_numbers_without_seeds(
    generator: str, sources: tuple[str, ...]
) -> None:
    kernel = Kernel(*sources)
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []
    kernel.run("c0", "c1", "c2")
    [flag] = kernel.flags()
    assert flag.kind.value == "unseeded"
    assert flag.message.startswith(f"{generator}'s random numbers continue")
    assert "restart the kernel" in flag.message


def test_a_message_names_all_generators_and_their_seeds() -> None:
    kernel = Kernel("import random\nimport numpy as np", "x = random.random() + np.random.rand()")
    kernel.run("c0", "c1", "c0", "c1")
    [flag] = kernel.flags()
    assert flag.message == (
        "Python's random and NumPy's random numbers continue those of earlier executions in this "
        "kernel. Set the seed before they are used, with `random.seed(0)` and `np.random.seed(0)`, "
        "or restart the kernel and run all cells."
    )


def test_only_running_the_training_again_is_flagged() -> None:
    kernel = Kernel("import math", "weights = [0.0]", "weights[0] += 1")
    kernel.run("c0", "c1", "c2", "c2")
    [flag] = kernel.flags()
    assert (flag.kind.value, flag.cell_id, flag.cell_number) == ("rerun", "c2", 4)
    assert flag.message == (
        "Cell 4 (In [3], In [4]) ran again, and effects of the earlier run may remain. Restart the "
        "kernel and run all cells."
    )


def test_running_all_again_is_flagged_if_names_are_kept() -> None:
    for source in (
        "try:\n    counter += 1\nexcept NameError:\n    counter = 0",
        "if 'counter' not in globals():\n    counter = 0\ncounter = counter + 1",
    ):
        kernel = Kernel("import math", source, "x = counter")
        kernel.run("c0", "c1", "c2", "c0", "c1", "c2")
        assert kernel.kinds() == [("rerun", "c1")], source


def test_cells_that_were_edited_are_clean_after_running_all() -> None:
    kernel = Kernel("import math", "lr = 0.1", "loss = lr")
    kernel.run("c0", "c1", "c2")
    kernel.edit("c1", "lr = 0.2")
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []


def test_code_that_was_tried_and_deleted_is_clean_after_running_all() -> None:
    kernel = Kernel("import math", "data = [1]", "loss = sum(data)")
    kernel.run("c0", "c1")
    kernel.execute("data.append(2)")
    kernel.run("c2")
    assert kernel.kinds() == [("deleted", None)]
    kernel.execute("print(loss)")
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []


def test_a_definition_that_was_deleted_is_flagged_if_it_is_used() -> None:
    kernel = Kernel("import math", "data = [1]", "loss = total(data)")
    kernel.execute("def total(data): return sum(data)")
    kernel.execute("import numpy")
    kernel.execute("print('hello')")
    kernel.run("c0", "c1", "c2")
    kernel.run("c0", "c1", "c2")
    [flag] = kernel.flags()
    assert (flag.kind.value, flag.execution_counts) == ("deleted", [1])


@pytest.mark.parametrize("source", ["plot(data)", "print(loss)", "other = model(data)", "data[0]",
                                    "import math", "%time loss"])  # fmt: skip
def test_cells_below_the_training_do_not_count(source: str) -> None:
    kernel = Kernel("import math", "data = [1]", "loss = math.fsum(data)", source)
    kernel.run("c0", "c1", "c3", "c2")
    assert kernel.flags() == []
    kernel.run("c3", "c2")
    assert kernel.kinds() == [("rerun", "c2")]
    kernel.edit("c3", "another")
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []


@pytest.mark.parametrize("source", ["data = []", "data[0] = 2", "data += [3]", "data.append(3)",
                                    "for data in []: pass", "del data[0]"])  # fmt: skip
def test_cells_below_the_training_count_if_they_change_what_it_uses(source: str) -> None:
    kernel = Kernel("import math", "data = [1]", "loss = sum(data)", source)
    kernel.run("c0", "c1", "c3", "c2")
    [flag] = kernel.flags()
    assert (flag.kind.value, flag.cell_id) == ("out_of_order", "c3")
    assert flag.message.startswith("Cell 5 (In [3]) is below the training")
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []


def test_a_function_uses_names_when_it_is_called() -> None:
    kernel = Kernel("def loss(): return lr", "lr = 0.1", "x = loss()", "lr = 0.5")
    kernel.run("c0", "c1", "c2", "c3", "c0", "c1", "c2")
    assert kernel.flags() == []
    kernel.run("c0", "c1", "c3", "c2")
    assert kernel.kinds() == [("out_of_order", "c3")]


def test_changing_the_folder_twice_is_flagged() -> None:
    for source, kinds in {"%cd data": [("rerun", "c0")], "%cd /data": []}.items():
        kernel = Kernel(source, "x = 1")
        kernel.run("c0", "c1", "c0", "c1")
        assert kernel.kinds() == kinds
