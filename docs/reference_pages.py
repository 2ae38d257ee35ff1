"""Write the reference's pages from the package: a table for each public module, a page for each public name.

The handbook's build calls this. A name is documented under the path that users import it from: ``skmlmc.X`` where the
package itself has it, ``skmlmc.module.X`` elsewhere. What becomes public is found here without anything to be added.
"""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

import skmlmc

# In the order of a document's way; public modules that are not named here come behind.
ORDER = (
    "classifier comparison extract align calibrate finetune prompts datasets metrics analysis plots streaming".split()
)


def modules():
    """Return the public modules of the package, by name."""
    names = [m.name for m in pkgutil.iter_modules(skmlmc.__path__) if not m.name.startswith("_")]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    found = {name: importlib.import_module(f"skmlmc.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "__all__")}


@cache
def groups():
    """Return lists of pairs (path that users import, object), by module; the package's own come under theirs."""
    by_module = {
        name: [
            (f"skmlmc.{public}" if public in skmlmc.__all__ else f"skmlmc.{name}.{public}", getattr(module, public))
            for public in module.__all__
        ]
        for name, module in modules().items()
    }
    placed = {path for pairs in by_module.values() for path, _ in pairs}
    rest = [(f"skmlmc.{name}", getattr(skmlmc, name)) for name in skmlmc.__all__]
    return {**by_module, "": [(path, value) for path, value in rest if path not in placed]}


@cache
def documented():
    """Return the path under which each public name is documented, by every path and by the bare name."""
    paths = {}
    for name, pairs in groups().items():
        for path, _ in pairs:
            bare = path.rpartition(".")[2]
            for known in (path, bare, f"skmlmc.{name}.{bare}", f"{name}.{bare}"):
                paths.setdefault(known, path)
    return paths


def has_page(value):
    """Say whether a public object has a docstring of its own; constants have none."""
    return inspect.isclass(value) or inspect.isroutine(value)


def section(name, pairs):
    """Return the lines of one module's table."""
    module = modules().get(name)
    title = f"skmlmc.{name}" if name else "skmlmc: models"
    about = inspect.getdoc(module).splitlines()[0] if name else "What is loaded, and where it lies."
    lines = [title, "-" * len(title), "", about, "", ".. currentmodule:: skmlmc", ""]
    pages = [path.removeprefix("skmlmc.") for path, value in pairs if has_page(value)]
    if pages:
        lines += (
            [".. autosummary::", "   :toctree: .", "   :nosignatures:", ""] + [f"   {path}" for path in pages] + [""]
        )
    values = {path: value for path, value in pairs if not has_page(value)}
    for path, value in values.items():
        lines += [f".. py:data:: {path}", f"   :type: {type(value).__name__}", ""]
        lines += ["   ::", "", *(f"      {line}" for line in _shown(value)), ""]
    return lines


def _shown(value):
    return value.splitlines() if isinstance(value, str) else [repr(value)]


def write(folder):
    """Write the page that lists all public names; Sphinx's autosummary writes the others."""
    folder.mkdir(exist_ok=True)
    lines = ["API", "===", "", "All public names. Most are imported from ``skmlmc`` itself.", ""]
    for name, pairs in groups().items():
        lines += section(name, pairs)
    _write_if_changed(folder / "index.rst", "\n".join(lines))


def _write_if_changed(path, text):
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def source_file(name, root):
    """Return the file of the repository that has the docstring of a page of the reference."""
    if name == "index":
        return "docs/reference_pages.py"
    objects = {path: value for pairs in groups().values() for path, value in pairs}
    value = inspect.unwrap(objects[name])
    return str(Path(inspect.getfile(value)).resolve().relative_to(root))
