"""How Sphinx builds the documentation: Markdown by MyST, Sphinx's own theme, warnings are errors (`make docs`)."""

import tomllib
from pathlib import Path

_project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = "eventserver"
author = "the eventserver authors"
project_copyright = author
version = release = _project["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
# Every heading can be linked to as `page.md#heading`.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
nitpicky = True

html_theme = "alabaster"
html_theme_options = {"description": _project["description"], "page_width": "1080px", "fixed_sidebar": True}
html_show_sourcelink = False
html_copy_source = False

# Lexers that the pages need and Pygments does not have are not worth a warning each.
highlight_language = "none"
