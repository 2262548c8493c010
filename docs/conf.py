"""How the site is built: ``sphinx-build -W docs docs/_build``. Needs no network.

Formulas become MathML, which browsers draw by themselves: the built pages need no script from
elsewhere and can be read from disk.
"""

import os
import re
import warnings
from importlib.metadata import version as installed_version

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", category=DeprecationWarning)  # other libraries' business

logger = logging.getLogger(__name__)

project = "naspix"
author = "The naspix developers"
project_copyright = "The naspix developers"
version = release = installed_version("naspix")

extensions = [
    "cyclopts.ext.sphinx",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples/**", "GALLERY_HEADER.*", "**/*.zip"]
templates_path = ["_templates"]
nitpicky = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "params_style"), "Source", "Sources"]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 10_000,
    "copyfile_regex": "",
    "reset_modules": ("matplotlib",),
}

html_theme = "furo"
html_title = "naspix"
html_static_path = ["_static"]
html_css_files = ["naspix.css"]
html_show_sourcelink = False
html_copy_source = False


def _formula(node: nodes.Node, *, block: bool) -> str:
    try:
        return str(tex2mathml(node.astext().strip(), as_block=block))
    except MathError as error:
        logger.warning("cannot set the formula %r: %s", node.astext(), error, location=node)
        return ""


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_formula(node, block=False))
    raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math-block"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append(_formula(node, block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _keep_colons(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Keep napoleon from taking "Where it is: on the CPU" for a type and its description."""
    if what in ("attribute", "property", "data") and lines:
        lines[0] = re.sub(r"(?<!:):(?= )", " \N{EN DASH}", lines[0], count=1)


def setup(app: Sphinx) -> None:
    """Register the MathML renderer, and what docstrings go through before napoleon."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)
