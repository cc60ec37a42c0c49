"""The documentation site: ``sphinx-build -W --keep-going -b html docs build/docs``.

The build reads the repository alone: no network, no model, no llama.cpp.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import localgen  # noqa: E402

project = "localgen"
author = "The localgen authors"
copyright = author  # noqa: A001  # Sphinx's own name
version = release = localgen.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "cli_help", "plain_docstrings"]
exclude_patterns = ["_ext"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3  # links such as devices.md#gpus, checked by the build

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"localgen {version}"
html_copy_source = False
html_show_sphinx = False
