"""Draw the rooms of the package from their imports, into docs/architecture.md.

python docs/draw_rooms.py

A room is a folder or a module at the top of the package. It is drawn above all rooms that it imports from, with those
of them that no other one stands between.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skmlmc"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_rooms.py -->\n", "<!-- end of the drawing -->"


def room_of(path):
    """Return the name of the folder or module at the top of the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path):
    """Rooms that a file imports from, wherever the import stands."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            yield from [node.module.split(".")[0]] if node.module else (alias.name for alias in node.names)


def find_rooms():
    """Return what each room imports from, and the first line of its docstring."""
    imports, about = {}, {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path)
        imports.setdefault(room, set()).update(set(imported_rooms(path)) - {room})
        if path.parent == PACKAGE or path.name == "__init__.py":
            about[room] = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]
    del imports["__init__"], imports["_version"]  # the names for users, and a number
    return {room: others - {"_version"} for room, others in imports.items()}, about


def draw():
    """Return the picture as lines of text."""
    imports, about = find_rooms()
    below = {}

    def all_below(room):
        if room not in below:
            below[room] = imports[room].union(*(all_below(other) for other in imports[room]))
        return below[room]

    def floor(room):
        return 1 + max((floor(other) for other in imports[room]), default=0)

    lines = []
    for room in sorted(imports, key=lambda room: (-floor(room), room)):
        # plots imports _utils too, but so do the rooms that it stands on.
        direct = imports[room] - set().union(*(all_below(other) for other in imports[room]))
        lines.append(f"{floor(room):2}  {room:<11} {about[room]}")
        if direct:
            lines.append(f"{'':16}on {', '.join(sorted(direct))}")
    return "\n".join(lines)


def page_with(picture, page):
    """Return the page with the picture between its marks."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}```text\n{picture}\n```\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(draw(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
