"""Sphinx builds the site in build/docs from the Markdown files here; see `make docs`."""

HOME = "https://github.com/django-sqllogs/django-sqllogs"
"""Where the project lives; links from README.md and the runbooks begin with it, tests compare."""

project = "sqllogs"
project_copyright = "the sqllogs authors"
html_title = "sqllogs"
extensions = ["myst_parser"]
myst_heading_anchors = 4
exclude_patterns = ["requirements.txt"]
html_theme = "furo"
html_theme_options = {"source_repository": HOME, "source_branch": "main", "source_directory": "docs/"}
html_show_sphinx = False
html_copy_source = False
