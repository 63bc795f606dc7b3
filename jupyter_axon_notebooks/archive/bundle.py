"""Write bundles: zip files with everything about one checkpoint that a colleague needs."""

from __future__ import annotations

import json
import os
import zipfile
from typing import IO

from ..errors import NotFound
from ..mapping import export_notebook, notebook_file_name, notebook_text
from ..provenance import Environment
from ..records import NotebookCheckpoint
from ..repository import NotebookRepository
from ..repository.retention import state_paths
from ..states import StateStorage
from .format import CHUNK


def write_bundle(
    repository: NotebookRepository,
    checkpoint: NotebookCheckpoint,
    states: StateStorage,
    file: IO[bytes],
) -> list[str]:
    """Write a bundle of a checkpoint and return the names of its members.

    ====================  =====================================================================
    ``NAME.ipynb``        the notebook as it was saved when the checkpoint was made
    ``NAME.py``           the code that was executed before the checkpoint, as a script
    ``requirements.txt``  the packages of the environment
    ``metrics.json``      epoch, step, and the checkpoint's metrics
    ``config.json``       the configuration of the run
    ``provenance.json``   executed cells, environment, git commit and reproducibility flags
    ``states/…``          the state files
    ====================  =====================================================================

    Members without content, such as the script of a checkpoint that was not made in a kernel, are
    left out.

    Raises
    ------
    NotFound
        If the notebook, or a state file, is missing.
    StateError
        If a state file cannot be read.
    """
    header = repository.find_summary(checkpoint.notebook_id)
    if header is None:
        raise NotFound("notebook", checkpoint.notebook_id)
    name = notebook_file_name(header.name)
    saved = repository.provenance.get_notebook(checkpoint.id)
    script = repository.provenance.get_script(checkpoint.id)
    provenance = repository.provenance.get(checkpoint.id)
    texts = {name: notebook_text(export_notebook(saved.cells, saved.metadata))}
    if script is not None:
        texts[f"{name.removesuffix('.ipynb')}.py"] = script
    if provenance.environment is not None:
        texts["requirements.txt"] = _format_requirements(provenance.environment)
    document = checkpoint.to_json()
    metrics = {key: document[key] for key in ("epoch", "step", "metrics") if key in document}
    described = provenance.to_json()
    described.pop("version", None)  # the notebook is a member of its own
    documents = {"metrics.json": metrics, "provenance.json": described}
    if checkpoint.run_id is not None:
        run = repository.runs.get(checkpoint.notebook_id, checkpoint.run_id)
        if run is not None and run.config is not None:
            documents["config.json"] = run.to_json()["config"]
    texts |= {member: json.dumps(one, indent=1) + "\n" for member, one in documents.items()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for member, text in texts.items():
            # A script may quote half surrogate pairs.
            bundle.writestr(member, text.encode("utf-8", "backslashreplace"))
        for part, path in state_paths(checkpoint).items():
            with states.open(path, checkpoint.notebook_id) as source:
                member = f"states/{part}{os.path.splitext(path)[1]}"
                with bundle.open(zipfile.ZipInfo(member), "w", force_zip64=True) as target:
                    while chunk := source.read(CHUNK):
                        target.write(chunk)
        return bundle.namelist()


def _format_requirements(environment: Environment) -> str:
    header = f"# {environment.implementation} {environment.python} on {environment.platform}\n"
    names = sorted(environment.packages, key=str.lower)
    return header + "".join(f"{name}=={environment.packages[name]}\n" for name in names)
