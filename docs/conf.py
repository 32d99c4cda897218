# ruff: noqa: INP001  # the docs are no package
"""How the documentation is built: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import drawings  # noqa: E402  # beside this file
from tests.public import on_a_page  # noqa: E402  # in the root

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
autodoc_preserve_defaults = True  # and what is a constant there is shown by its value, see `setup`
autodoc_member_order = "bysource"
napoleon_use_ivar = True
nitpick_ignore = [("py:exc", name) for name in ("RuntimeError", "TypeError", "ValueError")]

html_theme = "furo"
html_title = f"resilient {release}"


def setup(app: Sphinx) -> None:
    """Let a signature show what stands behind a constant."""

    def effective(*told: Any) -> tuple[str | None, str | None]:
        _app, what, name, thing, _options, signature, returns = told
        if what == "function" and signature:
            signature = on_a_page(name.rpartition(".")[2], thing, signature)
        return signature, returns

    app.connect("autodoc-process-signature", effective)
