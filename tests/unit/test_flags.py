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
    "a trainer of transformers that initializes the model": (
        "from transformers import AutoModel, Trainer, TrainingArguments",
        "arguments = TrainingArguments(seed=42)\n\n\ndef build():\n"
        "    return AutoModel.from_pretrained('x')",
        "trainer = Trainer(model_init=build, args=arguments)\ntrainer.train()",
    ),
    "transformers, what does not draw before the seed": (
        "from accelerate import Accelerator\nfrom transformers import AutoModel, logging, set_seed",
        "logging.set_verbosity_error()\naccelerator = Accelerator()\nset_seed(0)",
        "x = AutoModel.from_pretrained('x')",
    ),
    "keras, what does not draw before the seed": (
        "import keras",
        "stop = keras.callbacks.EarlyStopping()\nkeras.utils.set_random_seed(1)",
        "x = keras.layers.Dense(1)",
    ),
    "sklearn, options that do not draw": (
        "from sklearn.ensemble import RandomForestClassifier\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.model_selection import train_test_split\n"
        "from sklearn.tree import plot_tree",
        "options = {'random_state': 0}\nmodel = RandomForestClassifier(**options)",
        "train, _ = train_test_split([1, 2], shuffle=False)\nplot_tree(model)\n"
        "x = LogisticRegression(solver='lbfgs').fit(train, train)",
    ),
    "tensorflow, explicit generators": (
        "import keras, tensorflow as tf",
        "g = tf.random.Generator.from_seed(1)\nh = keras.random.normal((2,), seed=1)",
        "x = g.normal([2]) + tf.random.stateless_normal([2], seed=(1, 2)) + h",
    ),
    "methods of other objects than pandas'": (
        "import pandas as pd",
        "env.action_space.seed(0)\nbuffer = Buffer()",
        "x = buffer.sample(64), env.action_space.sample(), polars_frame.sample(n=2, seed=3)",
    ),
    "the method of an object": (
        "import numpy as np\nfrom lightning import Fabric",
        "fabric = Fabric()\nfabric.seed_everything(0)",
        "x = np.random.rand()",
    ),
    "monai": ("import torch\nfrom monai.utils import set_determinism", "set_determinism(seed=0)",
              "x = torch.rand(1)"),
    "functions in a list": (
        "import random\nimport numpy as np",
        "for fix in (random.seed, np.random.seed):\n    fix(0)",
        "x = random.random() + np.random.rand()",
    ),
    "a partial function": (
        "from functools import partial\nimport numpy as np",
        "fix = partial(np.random.seed, 0)\nfix()",
        "x = np.random.rand()",
    ),
    "a function that imports": (
        "import math\ndef fix():\n    import random\n    random.seed(0)",
        "fix()",
        "import random\nx = random.random()",
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
    "a value in place": ("PyTorch", "import torch", "w = torch.empty(3)", "w.normal_()"),
    "a function that builds a model": (
        "PyTorch",
        "from torch import nn\ndef build():\n    return nn.Linear(1, 1)",
        "model = build()",
        "x = model(1)",
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
    "sklearn, data": ("NumPy", "from sklearn.datasets import make_blobs", "n = 9",
                      "x = make_blobs(n)"),
}  # fmt: skip


IMPORTS = """import datetime, os, random, secrets, time, uuid
from contextlib import contextmanager
import jax, numpy as np, torch
from helpers import temp_seed
from sklearn.model_selection import train_test_split
from torch.random import fork_rng
"""
CONTEXT_MANAGER = """@contextmanager
def seeded(seed):
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
"""
FORK = """@contextmanager
def seeded(seed):
    with fork_rng():
        torch.manual_seed(seed)
        yield
"""
CONTEXT_CLASS = """class Seeded:
    def __enter__(self):
        self.state = np.random.get_state()
        np.random.seed(0)

    def __exit__(self, *exception):
        np.random.set_state(self.state)
"""
#: Two cells each, whose random numbers are the same in each execution, or may be.
FIXED_SEEDS = [
    ("rng = np.random.Generator(np.random.PCG64(0))", "x = rng.normal()"),
    ("rng = random.Random(seed)", "x = rng.random()"),
    ("g = torch.Generator().manual_seed(0)", "x = torch.rand(1, generator=g)"),
    ("g = torch.Generator()", "x = torch.rand(1, generator=g)"),  # PyTorch has a default seed
    ("g = torch.Generator().manual_seed(0)", "x = torch.rand(1, generator=g).to('cpu').sum()"),
    ("def make():\n    g = torch.Generator()\n    g.manual_seed(0)\n    return g",
     "g = make()\nx = torch.empty(3)\nx.normal_(generator=g)\ny = x.sum()"),
    ("class Sampler:\n    def __init__(self):\n        self.g = torch.Generator()\n"
     "    def draw(self):\n        return torch.rand(1, generator=self.g)",
     "sampler = Sampler()\nx = sampler.draw().item()"),
    ("def loss(a):\n    return torch.mean(a)", "x = loss(torch.ones(3)).item()"),
    ("def draw(random):\n    return random.normal()", "x = draw(np.random.default_rng(0))"),
    ("key = jax.random.PRNGKey(SEED)", "key, other = jax.random.split(key)"),
    ("seeds = np.random.SeedSequence(1)", "x = [np.random.default_rng(s) for s in seeds.spawn(2)]"),
    # A seed after the generator was created.
    ("rng = random.Random()\nrng.seed(4)", "x = rng.random()"),
    ("rng = np.random.RandomState()", "rng.set_state(state)\nx = rng.rand()"),
    ("rng = np.random.default_rng()\nrng.bit_generator.state = state", "x = rng.random()"),
    ("rng = np.random.default_rng()", "rng = np.random.default_rng(3)\nx = rng.random()"),
    ("rngs = [random.Random() for _ in range(2)]",
     "for i, r in enumerate(rngs): r.seed(i)\nx = rngs"),
    ("g = torch.Generator()\ndef seed_generator(g):\n    g.manual_seed(0)",
     "seed_generator(g)\nx = torch.rand(1, generator=g)"),
    ("random.seed()\nrandom.seed(0)", "x = random.random()"),
    ("np.random.seed()", "np.random.seed(0)\nx = np.random.rand()"),
    ("class Env:\n    def __init__(self):\n        self.rng = np.random.default_rng()\n"
     "    def reset(self, seed):\n        self.rng = np.random.default_rng(seed)",
     "env = Env()\nx = env.reset(0)"),
    # Entropy that draws nothing.
    ("config = [1, time.time()]\nnp.random.seed(config[0])", "x = np.random.rand()"),
    ("temp_seed(0, time.time())", "x = np.random.rand()"),
    ("password = random.SystemRandom().choice('abc')", "x = password"),
    ("rng = np.random.default_rng()", "x = 1"),
    ("random.seed()", "x = 1"),
    ("start = time.time()", "x = time.time() - start"),
    ("name = f'{uuid.uuid4().hex} {datetime.datetime.now()}'",
     "np.random.seed(0)\nx = np.random.rand()"),
    # Seeds of unknown origin.
    ("seed = int(os.environ.get('SEED', time.time()))\nnp.random.seed(seed)",
     "x = np.random.rand()"),
    ("rng = np.random.default_rng(config['seed'])", "x = rng.normal()"),
    ("seed = args.seed if args.seed else int(time.time())\nrandom.seed(seed)",
     "x = random.random()"),
    ("seed = None\nif seed is None:\n    seed = int(time.time())",
     "random.seed(seed)\nx = random.random()"),
    ("if args.seed is None:\n    args.seed = random.randint(1, 10000)",
     "random.seed(args.seed)\nx = random.random()"),
    ("for seed in (0, None):\n    if seed is None:\n        continue\n"
     "    rng = np.random.default_rng(seed)\n    if seed == 0:\n        break\n"
     "    x = np.random.default_rng().normal()", "y = x"),
    ("if seed is None:\n    np.random.seed()\nelse:\n    np.random.seed(seed)",
     "x = np.random.rand()"),
    ("def draw(seed):\n    return np.random.default_rng(seed).normal()", "x = draw(1)"),
    ("def draw(rng=None):\n    if rng is None:\n        rng = np.random.default_rng()\n"
     "    return rng.normal()", "x = draw(np.random.default_rng(0))"),
    ("def check(rng):\n    if rng is not None:\n        return rng\n    return random.Random()",
     "x = check(random.Random(0))"),
    ("def draw(rng=np.random.default_rng()):\n    return rng.normal()",
     "x = draw(np.random.default_rng(0))"),
    ("class Sampler:\n    def __init__(self, rng=None):\n"
     "        self.rng = rng or random.Random()\n    def reset(self):\n"
     "        self.rng = random.Random()", "x = Sampler(random.Random(0))"),
    ("random.seed(0)\nnp.random.seed(random.randrange(100))", "x = np.random.rand()"),
    # Seeds of a block.
    ("with fork_rng():\n    torch.manual_seed(0)\n    x = torch.rand(1)", "y = x"),
    ("torch.manual_seed(0)", "with fork_rng():\n    torch.manual_seed(1)\nx = torch.rand(1)"),
    ("def fix(s):\n    torch.manual_seed(s)",
     "with fork_rng():\n    fix(1)\nfix(0)\nx = torch.rand(1)"),
    (CONTEXT_MANAGER, "with seeded(0):\n    x = np.random.rand()"),
    (FORK, "with seeded(0):\n    x = torch.rand(1)"),
    (CONTEXT_CLASS, "with Seeded():\n    x = np.random.rand()"),
    ("n = 3", "with temp_seed(0):\n    x = np.random.rand(n)"),
    ("s = np.random.get_state()\nnp.random.seed(0)\nx = np.random.rand()\nnp.random.set_state(s)",
     "y = x"),
    ("np.random.seed(1)\ns = np.random.get_state()",
     "y = np.random.rand()\nnp.random.set_state(s)\n"
     "x = np.random.rand()"),
]  # fmt: skip
#: The source of entropy, and two cells whose random numbers differ in each execution.
ENTROPY = [
    ("numpy.random.default_rng", "rng = np.random.default_rng()", "x = rng.normal()"),
    ("numpy.random.default_rng", "rng: object = np.random.default_rng(seed=None)",
     "x = rng.normal()"),
    ("numpy.random.default_rng", "n = 3", "x = np.random.default_rng().normal(size=n)"),
    ("numpy.random.default_rng",
     "def draw():\n    rng = np.random.default_rng()\n    return rng.normal()",
     "x = draw()"),
    ("numpy.random.default_rng", "class Sampler:\n    def __init__(self):\n"
     "        self.rng = np.random.default_rng()", "x = Sampler()"),
    ("numpy.random.PCG64", "rng = np.random.Generator(np.random.PCG64())", "x = rng.normal()"),
    ("numpy.random.Philox", "bits = np.random.Philox()", "x = np.random.Generator(bits).normal()"),
    ("numpy.random.SeedSequence", "rng = np.random.default_rng(np.random.SeedSequence())",
     "x = rng.normal()"),
    ("numpy.random.RandomState", "n = [1, 2]",
     "x = train_test_split(n, random_state=np.random.RandomState())"),
    ("random.Random", "rng = random.Random()", "files = [1, 2, 3]\nrng.shuffle(files)"),
    ("random.SystemRandom", "random.seed(random.SystemRandom().random())", "x = random.random()"),
    ("g.seed", "g = torch.Generator()\ng.seed()", "x = torch.rand(1, generator=g)"),
    ("time.time", "g = torch.Generator().manual_seed(int(time.time()))",
     "x = torch.rand(1, generator=g)"),
    ("time.time", "key = jax.random.PRNGKey(int(time.time()))", "x = jax.random.normal(key)"),
    ("secrets.randbits", "key = jax.random.key(secrets.randbits(32))",
     "x = jax.random.normal(key)"),
    ("random.seed", "random.seed()", "x = random.random()"),
    ("numpy.random.seed", "np.random.seed(None)", "x = np.random.rand()"),
    ("numpy.random.seed", "np.random.seed(0)", "np.random.seed()\nx = np.random.rand()"),
    ("torch.seed", "torch.manual_seed(0)\ntorch.seed()", "x = torch.rand(1)"),
    ("torch.seed", "torch.random.seed()", "x = torch.rand(1)"),
    ("time.time_ns", "np.random.seed(time.time_ns() % 2**32)", "x = np.random.rand()"),
    ("datetime.datetime.now", "random.seed(datetime.datetime.now().timestamp())",
     "x = random.random()"),
    ("os.urandom", "random.seed(int.from_bytes(os.urandom(4), 'big'))", "x = random.random()"),
    ("os.urandom", "np.random.seed(np.frombuffer(os.urandom(4), np.uint32)[0])",
     "x = np.random.rand()"),
    ("uuid.uuid4", "torch.manual_seed(uuid.uuid4().int % 2**32)", "x = torch.rand(1)"),
    ("time.time", "SEED = int(time.time())", "torch.manual_seed(SEED)\nx = torch.rand(1)"),
    ("time.time", "n = [1, 2]", "x = train_test_split(n, random_state=int(time.time()))"),
    ("time.time", "data = load()", "x = data.sample(frac=1, random_state=int(time.time()))"),
    ("time.time", "def set_seed(s):\n    np.random.seed(s)",
     "set_seed(int(time.time()))\nx = np.random.rand()"),
]  # fmt: skip
#: The generator, and two cells that draw from it after a block that sets its seed.
UNSEEDED_AFTER_BLOCK = [
    ("PyTorch", "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)",
     "x = torch.rand(1)"),
    ("PyTorch", "def draw():\n    with fork_rng():\n        torch.manual_seed(0)\n"
     "        return torch.rand(1)", "x = draw() + torch.rand(1)"),
    ("PyTorch", FORK, "with seeded(0):\n    y = torch.rand(1)\nx = torch.rand(1)"),
    ("NumPy", CONTEXT_MANAGER, "with seeded(0):\n    y = np.random.rand()\nx = np.random.rand()"),
    ("NumPy", CONTEXT_CLASS, "with Seeded():\n    y = np.random.rand()\nx = np.random.rand()"),
    ("NumPy", "with temp_seed(0):\n    y = np.random.rand()", "x = np.random.rand()"),
    ("NumPy", "s = np.random.get_state()\nnp.random.seed(0)\ny = np.random.rand()\n"
     "np.random.set_state(s)", "x = np.random.rand()"),
    ("Python", "s = random.getstate()\nrandom.seed(0)\nrandom.setstate(s)", "x = random.random()"),
    ("PyTorch", "s = torch.get_rng_state()\ntorch.manual_seed(0)\ntorch.set_rng_state(s)",
     "x = torch.rand(1)"),
    # Seeds that are drawn from a generator without one.
    ("Python", "np.random.seed(random.randrange(100))", "x = np.random.rand()"),
    ("NumPy", "torch.manual_seed(np.random.randint(100))", "x = torch.rand(1)"),
]  # fmt: skip


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


@pytest.mark.parametrize("sources", FIXED_SEEDS)
def test_running_all_again_is_clean_if_seeds_are_fixed(sources: tuple[str, ...]) -> None:
    kernel = Kernel(IMPORTS, *sources)
    for _ in range(3):
        kernel.run("c0", "c1", "c2")
        assert kernel.flags() == []


@pytest.mark.parametrize(("function", "sources"), [(one[0], one[1:]) for one in ENTROPY])
def test_running_all_again_with_a_seed_that_differs_is_flagged(
    function: str, sources: tuple[str, ...]
) -> None:
    kernel = Kernel(IMPORTS, *sources)
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []
    kernel.run("c0", "c1", "c2")
    [flag] = kernel.flags()
    assert flag.kind.value == "unseeded"
    assert flag.message in {
        f"Cell {number} (In [{number + 2}]) uses a random seed that differs in each execution: "
        f"`{function}()`. Use a fixed seed, such as 0, and train again."
        for number in (3, 4)
    }


@pytest.mark.parametrize(
    ("generator", "sources"), [(one[0], one[1:]) for one in UNSEEDED_AFTER_BLOCK]
)
def test_the_seed_of_a_block_is_none_of_the_code_after_it(
    generator: str, sources: tuple[str, ...]
) -> None:
    kernel = Kernel(IMPORTS, *sources)
    kernel.run("c0", "c1", "c2")
    assert kernel.flags() == []
    kernel.run("c0", "c1", "c2")
    [flag] = kernel.flags()
    assert flag.message.startswith(f"{generator}'s random numbers continue")


def test_functions_that_call_many_others_do_not_exceed_the_stack() -> None:
    functions = "\n".join(f"def f{n}(): return f{n + 1}()" for n in range(1000))
    kernel = Kernel(functions, "x = 1", "x = f0()")
    kernel.run("c0", "c1", "c2", "c0", "c1", "c2")
    assert {kind for kind, _ in kernel.kinds()} <= {"rerun"}


def test_a_fixed_seed_ends_the_flag_of_a_seed_that_differs() -> None:
    kernel = Kernel("import numpy as np", "rng = np.random.default_rng()", "x = rng.normal()")
    kernel.run("c0", "c1", "c2", "c0", "c1", "c2")
    assert kernel.kinds() == [("unseeded", "c1")]
    kernel.edit("c1", "rng = np.random.default_rng(0)")
    kernel.run("c1", "c2")
    assert kernel.flags() == []


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
