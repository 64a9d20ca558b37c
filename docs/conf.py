"""Sphinx configuration."""

import hyperspy_lfp

project = "hyperspy_lfp"
author = "hyperspy_lfp developers"
project_copyright = f"2026, {author}"
release = version = hyperspy_lfp.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "sphinx.ext.mathjax",
]
extlinks = {"doi": ("https://doi.org/%s", "doi:%s")}
exclude_patterns = ["_build", "Thumbs.db"]
templates_path = ["_templates"]
default_role = "code"

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Our own members only: HyperSpy documents the some two hundred that every signal inherits.
numpydoc_show_class_members = False
numpydoc_show_inherited_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"hyperspy_lfp {release}"
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}
