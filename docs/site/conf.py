"""The documentation site: `make docs` builds it from the Markdown pages and the docstrings.

The pages are plain Markdown, so that they can be read in a repository browser too.  What only the
site needs is here and in the modules beside this one: navigation, links, and docstrings' marks.
"""

from docs.site import docstrings, navigation

project = "Hybrid saga"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinxcontrib.mermaid",
    "docs.site.navigation",
    "docs.site.links",
    "docs.site.docstrings",
]

# The sources are the whole checkout: pages link to the README and to examples.
root_doc = navigation.ROOT
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/*/*.md",
    "examples/*/README.md",
    "benchmarks/results/*.md",
]
exclude_patterns = [".*", "tests", "build", "dist"]

html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
templates_path = ["templates"]
# `index.html` leads to the first page, which is in a folder of its own.
html_additional_pages = {"index": "redirect.html"}
html_static_path = ["static"]
html_css_files = ["site.css"]
pygments_style = "friendly"

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
# A link that leads nowhere must fail; addresses elsewhere are not looked up.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", name) for name in docstrings.NOT_OURS]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
add_module_names = False
maximum_signature_line_length = 80
