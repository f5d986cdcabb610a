"""Links to files of the repository that are no pages: the site names them and does not lead there.

A link to what does not exist stays a warning, and so an error.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Name what is no page."""
    app.connect("doctree-read", _name_sources)
    return {"parallel_read_safe": True}


def _name_sources(app: Sphinx, page: nodes.document) -> None:
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(page.findall(addnodes.download_reference)):
        link.replace_self(link.children)
    for link in list(page.findall(addnodes.pending_xref)):
        if link["reftype"] == "myst" and (folder / link["reftarget"]).is_dir():
            link.replace_self(link.children)
