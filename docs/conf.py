"""Settings of Sphinx, which builds these pages; `make docs` runs it with warnings as errors."""

project = "Tapewire"
author = "The Tapewire maintainers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Tapewire"
myst_heading_anchors = 3
nitpicky = True
