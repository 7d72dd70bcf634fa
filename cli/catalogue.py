"""`tersor passes`: list and explain passes and presets."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..ir.errors import TersorError
from . import show
from .build import Imports, Json, load_imports


def passes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A pass or a preset to explain.")] = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """List passes and presets, or explain one."""
    load_imports(imports)
    from ..passes import PRESETS, known_passes

    known = known_passes()
    if name is None:
        entries = [describe(cls) for cls in known.values()]
        if as_json:
            show.emit_json({"passes": entries, "presets": {n: {"pipeline": p.pipeline, "why": p.why} for n, p in PRESETS.items()}})
            return
        show.table(["pass", "keeps", "what it does"], [(e["name"], e["keeps"], e["help"].partition("\n")[0]) for e in entries], left=3)
        show.table(["preset", "passes"], [(n, p.pipeline) for n, p in PRESETS.items()], left=2)
    elif name in PRESETS:
        preset = PRESETS[name]
        if as_json:
            show.emit_json({"name": name, "pipeline": preset.pipeline, "why": preset.why})
        else:
            show.line(f"{name} = {preset.pipeline}", style="bold")
            show.line(preset.why)
    elif name in known:
        entry = describe(known[name])
        if as_json:
            show.emit_json(entry)
            return
        tolerance = f" within {entry['tolerance']:.0e}" if entry["keeps"] == "numeric" else ""
        show.line(f"{name}: {entry['keeps']}{tolerance}", style="bold")
        show.line(entry["help"])
        if entry["options"]:
            show.table(["option", "type", "default"], [(o["name"], o["type"], o["default"]) for o in entry["options"]], left=3)
    else:
        from ..passes.core.options import nearest

        raise TersorError(f"unknown pass {name!r}{nearest(name, [*known, *PRESETS])}; known: {', '.join(known)}; presets: {', '.join(PRESETS)}")


def describe(cls: Any) -> dict[str, Any]:
    """A pass as plain values: name, keeps, tolerance, help, options with type and default."""
    import inspect
    from dataclasses import MISSING, fields

    from ..passes.core.base import options_of
    from ..passes.core.options import describe as type_name
    from ..passes.core.options import format_value

    options = []
    for f in fields(cls):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        shown = "required" if default is MISSING else format_value(default)
        options.append({"name": f.name, "type": type_name(options_of(cls)[f.name]), "default": shown})
    return {"name": cls.name, "keeps": cls.keeps, "tolerance": cls.tolerance, "help": inspect.cleandoc(cls.help()), "options": options}
