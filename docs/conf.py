"""Sphinx configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from jupyter_axon_notebooks import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "jupyter-axon-notebooks"
author = "The jupyter-axon-notebooks developers"
project_copyright = "The jupyter-axon-notebooks developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "reference_directives",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # options such as --min must stay as they are

autodoc_typehints = "none"  # the numpydoc sections name the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


html_theme = "pydata_sphinx_theme"
html_title = "jupyter-axon-notebooks"
html_show_sourcelink = False
html_theme_options = {
    "github_url": "https://github.com/jupyter-axon/jupyter-axon-notebooks",
    "show_prev_next": False,
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
html_context = {"default_mode": "auto"}
