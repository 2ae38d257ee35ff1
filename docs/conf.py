"""How Sphinx builds the handbook: make -C docs html."""

import inspect
import os
import re
import sys
import urllib.request
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # examples are timed on machines that others use too

import message_page  # noqa: E402
import reference_pages  # noqa: E402
import results_pages  # noqa: E402
from sphinx.util.nodes import make_refnode  # noqa: E402
from sphinx_gallery.sorting import ExplicitOrder  # noqa: E402

import skmlmc  # noqa: E402

project = "skmlmc"
author = "The skmlmc developers"
copyright = f"2026, {author}"
version = release = skmlmc.__version__

SOURCE = "https://github.com/skmlmc/skmlmc"
GENERATED = {"reference": "skmlmc", "results": "benchmarks/results", "gallery": "examples"}

results_pages.write(ROOT / "benchmarks" / "results", DOCS / "results")
reference_pages.write(DOCS / "reference")
message_page.write(DOCS / "messages.md")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_templates", "gallery/**/*.ipynb", "gallery/**/*.py"]
templates_path = ["_templates"]
default_role = "py:obj"
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# Sphinx has no lexer for some outputs; they are text.
suppress_warnings = ["config.cache"]

autosummary_generate = True
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "inherited-members": True}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# What the names of other projects link to. Without the network, or where a site does not answer, they stay plain text.
INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "sklearn": "https://scikit-learn.org/stable/",
    "joblib": "https://joblib.readthedocs.io/en/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
}


def answers(address):
    """Say whether an inventory can be had now."""
    try:
        with urllib.request.urlopen(f"{address}objects.inv", timeout=3) as reply:
            return reply.read(20).startswith(b"# Sphinx inventory")
    except OSError:
        return False


# The first that does not answer means that there is no network: five more would be waited for in vain.
online = answers(INVENTORIES["python"])
intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items() if online and answers(url)}
intersphinx_timeout = 10

EXAMPLES = [
    "plot_how_a_model_answers.py",
    "plot_annotators_to_aligner.py",
    "plot_choose_a_method.py",
    "plot_single_label.py",
    "plot_larger_pipeline.py",
]
sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_\w+\.py$",
    "ignore_pattern": r"(cluster_\w+|quickstart)\.py$",
    "within_subsection_order": ExplicitOrder([*EXAMPLES, "*"]),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "plot_gallery": "True",
    "copyfile_regex": r".*\.csv",
    "backreferences_dir": None,
    "doc_module": ("skmlmc",),
    "reference_url": {"skmlmc": None},
}
# Examples are run where figures cannot be shown: matplotlib says so.
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")

html_theme = "pydata_sphinx_theme"
html_title = f"skmlmc {release}"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["handbook.css"]
html_js_files = [("sort.js", {"defer": "defer"})]
# Pages that stand alone have nothing to list beside them.
html_sidebars = {page: [] for page in ("index", "start", "install", "how_it_works", "reliability", "messages")}
html_copy_source = html_show_sourcelink = False
html_last_updated_fmt = None
html_context = {
    "github_user": "skmlmc",
    "github_repo": "skmlmc",
    "github_version": "main",
    "doc_path": "docs",
    "default_mode": "auto",
}
html_theme_options = {
    "use_edit_page_button": True,
    "github_url": SOURCE,
    "logo": {"text": f"skmlmc {release}"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "article_footer_items": ["edit-this-page"],  # pages without a sidebar can be edited too
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "search_bar_text": "Search the handbook",
}


def source_of(page):
    """Path in the repository of what a page is made from."""
    folder, _, name = page.rpartition("/")
    if folder == "reference":
        return reference_pages.source_file(name, ROOT)
    if folder == "results":
        return "docs/results_pages.py" if name == "index" else f"benchmarks/results/{name}.md"
    if folder == "gallery":
        return "examples/GALLERY_HEADER.rst" if name == "index" else f"examples/{name}.py"
    if page == "messages":
        return "docs/message_page.py"
    found = [path for path in (DOCS / f"{page}.md", DOCS / f"{page}.rst") if path.is_file()]
    return str(found[0].relative_to(ROOT)) if found else None


def edit_where_it_is_written(app, page, template, context, doctree):
    """Let "edit this page" lead to the source that a generated page is made from."""
    source = source_of(page)
    if source is None:  # search and index have none
        context["theme_use_edit_page_button"] = False
    else:
        url = f"{SOURCE}/edit/{html_context['github_version']}/{source}"
        context["get_edit_provider_and_url"] = lambda: ("GitHub", url)


# In the repository a link to a file leads to the file; in the handbook to its page, or where there is none, to GitHub.
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)(#[^)]*)?(\))")


def turn_links(app, page, source):
    """Rewrite links of Markdown pages that leave the folder of the handbook."""
    here = (DOCS / f"{page}.md").parent

    def turned(match):
        target = (here / match[2]).resolve()
        if target.is_relative_to(DOCS) or not target.is_relative_to(ROOT):
            return match[0]
        relative = target.relative_to(ROOT)
        up = "../" * (len(Path(page).parts) - 1)
        if target.suffix == ".md" and target.parent == ROOT / "benchmarks" / "results":
            return f"{match[1]}{up}results/{target.name}{match[3] or ''}{match[4]}"
        if target.suffix == ".png":
            return match[0]
        if relative.match("examples/plot_*.py"):
            return f"{match[1]}{up}gallery/{target.stem}.rst{match[4]}"
        kind = "tree" if target.is_dir() else "blob"
        return f"{match[1]}{SOURCE}/{kind}/main/{relative}{match[3] or ''}{match[4]}"

    if (DOCS / f"{page}.md").is_file():
        source[0] = LINK.sub(turned, source[0])


def find_public_name(app, env, node, contnode):
    """Link a public name wherever it stands; docstrings name what lies in other modules too."""
    target = reference_pages.documented().get(node.get("reftarget", "").removesuffix("()"))
    if node.get("refdomain") != "py" or target is None:
        return None
    found = env.get_domain("py").objects.get(target)
    return found and make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode, target)


def skip_what_scikit_learn_documents(app, what, name, member, skip, options):
    """Leave out members that every estimator of scikit-learn has."""
    inner = inspect.unwrap(getattr(member, "fget", None) or member)
    module = getattr(inner, "__module__", None) or ""
    return True if module.startswith("sklearn.") else None


def setup(app):
    """Connect what this file defines."""
    app.connect("source-read", turn_links)
    app.connect("missing-reference", find_public_name)
    app.connect("autodoc-skip-member", skip_what_scikit_learn_documents)
    app.connect("html-page-context", edit_where_it_is_written, priority=900)
