# ruff: noqa: INP001  # the docs are no package
"""How the documentation is built: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import drawings  # noqa: E402  # beside this file

drawings.write(HERE)

project = "resilient"
author = "The resilient authors"
copyright = "The resilient authors"  # noqa: A001  # Sphinx's word
release = version = version_of("resilient-py")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
default_role = "code"  # single backticks in docstrings are names

autodoc_typehints = "none"  # the types are the checker's; pages show names and defaults
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_use_ivar = True
nitpick_ignore = [("py:exc", name) for name in ("RuntimeError", "TypeError", "ValueError")]

html_theme = "furo"
html_title = f"resilient {release}"
