"""State files: a model's and an optimizer's saved weights, kept as opaque bytes.

::

    <root>/<notebook_id>/<checkpoint_id>/{model,optimizer}.<ext>

A file appears whole or not at all, and what :meth:`StateWriter.commit` has returned survives power loss.
Nothing here reads what is inside a state file, and nothing outside the root is ever written or removed.

* :mod:`.layout`: the names, and which of them are allowed
* :mod:`.folders`: folders held open, entered without following links
* :mod:`.writer`: how a file comes to be
* :mod:`.storage`: the home of them all: writing, reading, removing, measuring
"""

from .layout import Part
from .storage import StateStorage
from .writer import StateWriter, StoredState

__all__ = ["Part", "StateStorage", "StateWriter", "StoredState"]
