"""State files: the saved weights of models and optimizers, stored as opaque bytes.

::

    <root>/<notebook_id>/<checkpoint_id>/{model,optimizer}.<extension>

A state file is complete or absent, and survives a power failure once :meth:`StateWriter.commit` has
returned. Nothing here interprets the content of a state file, and nothing outside the root is
written or removed.

* :mod:`.layout`: names of files and folders
* :mod:`.folders`: folders that are accessed without following symbolic links
* :mod:`.writer`: writing one state file
* :mod:`.storage`: the storage of all state files
* :mod:`.notes`: checkpoints that the store has not recorded yet
* :mod:`.roots`: the roots that were used before
"""

from .layout import Part
from .storage import StateStorage
from .writer import StateWriter, StoredState

__all__ = ["Part", "StateStorage", "StateWriter", "StoredState"]
