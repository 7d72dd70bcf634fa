"""What a pass is, and the registry of all passes.

A pass is a frozen dataclass: `name` is what pipelines call it, its fields are its options, its docstring is its help. It is registered
by `@register_pass` or by an entry point of the group `tersor.passes`; a `@rewrite` function registered so is a pass that applies it.
"""

from __future__ import annotations

import fnmatch
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Self, TypeVar, overload

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Op
from ...ir.rewrite import Rewrite
from .context import Context
from .options import OptionError, coerce, nearest

Keeps = Literal["exact", "numeric", "lossy"]
PASSES: dict[str, type[Pass]] = {}
GROUP = "tersor.passes"


@dataclass(frozen=True)
class Pass:
    """Base of every pass.

    name: kebab-case, as pipeline strings write it.
    keeps: `exact` (outputs are the same bits), `numeric` (within `tolerance`, in float64) or `lossy`.
    tolerance: max|y - y'| / max|y| of a numeric pass over f32 weights; coarser weights widen it by the ratio of their epsilons.
    """

    name: ClassVar[str] = ""
    keeps: ClassVar[Keeps]
    tolerance: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        for option, annotation in options_of(type(self)).items():
            value = coerce(getattr(self, option), annotation, self.name, option)
            object.__setattr__(self, option, value)

    def run(self, graph: Graph, ctx: Context) -> Graph | None:
        """Change the graph in place, or return a new one. The pass owns the graph but not its arrays: it must not write to them."""
        raise NotImplementedError(f"{type(self).__name__}.run")

    @classmethod
    def with_options(cls, options: Mapping[str, Any]) -> Self:
        """The pass with options by name; an unknown name or a wrong type is an error that lists what is valid."""
        valid = options_of(cls)
        for option in options:
            if option not in valid:
                known = ", ".join(valid) if valid else "none"
                raise OptionError(f"pass {cls.name!r} has no option {option!r}{nearest(option, valid)}; valid: {known}", option)
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING and f.name not in options]
        if missing:
            raise TersorError(f"pass {cls.name!r} needs the option {missing[0]!r}: {cls.name}{{{missing[0]}=...}}")
        return cls(**options)

    def changed_options(self) -> dict[str, Any]:
        """Options that differ from their defaults, in the order of declaration."""
        changed = {}
        for f in fields(self):
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            value = getattr(self, f.name)
            if value != default or isinstance(value, bool) != isinstance(default, bool):
                changed[f.name] = value
        return changed

    @classmethod
    def help(cls) -> str:
        """The docstring, as written."""
        return (cls.__doc__ or "").strip()


@dataclass(frozen=True)
class LayerPass(Pass):
    """A pass whose options may differ by layer: `prune{ratio=0.5 layers={"features.0.*": {ratio=0}}}`.

    The keys of `layers` are shell patterns over the module paths of ops; later patterns win.
    """

    layers: dict[str, dict[str, Any]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for pattern, options in self.layers.items():
            if "layers" in options:
                raise OptionError(f"pass {self.name!r}: the options of layer {pattern!r} cannot hold 'layers'", "layers")
            try:
                self.with_options({**{f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}, **options})
            except OptionError as error:
                raise OptionError(f"{error} (in the layers {pattern!r})", "layers") from None

    def at(self, op: Op) -> Self:
        """The pass with the options that hold for one op."""
        options: dict[str, Any] = {}
        for pattern, changes in self.layers.items():
            if fnmatch.fnmatchcase(op.loc.path, pattern):
                options |= changes
        return replace(self, layers={}, **options)

    def check_layers(self, graph: Graph) -> None:
        """Raise when a pattern of `layers` matches no op: that is a typing error, which would otherwise go unnoticed."""
        paths = sorted({op.loc.path for op in graph if op.loc.path})
        for pattern in self.layers:
            if not fnmatch.filter(paths, pattern):
                shown = ", ".join(paths[:12]) + (", …" if len(paths) > 12 else "")
                raise TersorError(f"pass {self.name!r}: layer pattern {pattern!r} matches no op; module paths: {shown or 'none'}")


@dataclass(frozen=True)
class RewritePass(Pass):
    """Base of the passes that `@register_pass` makes of a `@rewrite` function: apply the pattern until it matches nowhere."""

    pattern: ClassVar[Rewrite]

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.greedy(graph, self.pattern)


def options_of(cls: type[Pass]) -> dict[str, Any]:
    """Option names and their types."""
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise TersorError(f"pass {cls.name!r}: cannot resolve the annotations of its options ({error})") from error
    return {f.name: hints[f.name] for f in fields(cls)}


T = TypeVar("T", bound=type[Pass] | Rewrite)


@overload
def register_pass(what: T, /) -> T: ...
@overload
def register_pass(*, name: str = "", keeps: Keeps = "exact", tolerance: float = 1e-6) -> Callable[[T], T]: ...
def register_pass(what: T | None = None, /, *, name: str = "", keeps: Keeps = "exact", tolerance: float = 1e-6) -> T | Callable[[T], T]:
    """Make a pass known to every pipeline: a `Pass` dataclass, or a `@rewrite` function.

    A class declares its own `name` and `keeps`. A rewrite is named after its function, in kebab-case, unless `name` is given; it counts
    as exact unless `keeps` is given: `@register_pass(keeps="numeric", tolerance=1e-5)`.
    """

    def register(what: T) -> T:
        if isinstance(what, Rewrite):
            _add(_rewrite_pass(what, name, keeps, tolerance))
        else:
            _add(what)
        return what

    return register if what is None else register(what)


def _rewrite_pass(pattern: Rewrite, name: str, keeps: Keeps, tolerance: float) -> type[Pass]:
    function = pattern.function
    body = {
        "__doc__": pattern.equation,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "name": name or pattern.name.replace("_", "-"),
        "keeps": keeps,
        "tolerance": tolerance,
        "pattern": pattern,
    }
    return dataclass(frozen=True)(type(function.__name__, (RewritePass,), body))


def _add(cls: type[Pass]) -> None:
    if not (isinstance(cls, type) and issubclass(cls, Pass)):
        raise TersorError(f"register_pass takes a Pass dataclass or a @rewrite function, got {cls!r}")
    where = f"{cls.__module__}.{cls.__qualname__}"
    if not cls.name or "__dataclass_fields__" not in cls.__dict__:
        raise TersorError(f"pass {where} must be a frozen dataclass with a `name`")
    if getattr(cls, "keeps", None) not in typing.get_args(Keeps):
        raise TersorError(f"pass {cls.name!r} must declare what it keeps: {', '.join(typing.get_args(Keeps))}")
    known = PASSES.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TersorError(f"pass {cls.name!r} of {where} is already registered by {known.__module__}.{known.__qualname__}")
    PASSES[cls.name] = cls


@cache
def load_plugins() -> dict[str, str]:
    """Load the passes of installed packages (entry points of the group `tersor.passes`), once; returns the errors by entry point."""
    failed = {}
    for point in entry_points(group=GROUP):
        try:
            loaded = point.load()
            if isinstance(loaded, Rewrite) and loaded not in [getattr(p, "pattern", None) for p in PASSES.values()]:
                register_pass(name=point.name)(loaded)
            elif isinstance(loaded, type) and issubclass(loaded, Pass):
                _add(loaded)
        except Exception as error:
            owner = f" of {point.dist.name}" if point.dist else ""
            failed[point.name] = f"plugin {point.name!r}{owner} ({point.value}) failed to load: {type(error).__name__}: {error}"
    return failed


def known_passes() -> dict[str, type[Pass]]:
    """All passes by name, those of plugins included."""
    load_plugins()
    return dict(sorted(PASSES.items()))


def pass_of(pattern: Rewrite) -> Pass:
    """The pass that was made of a registered `@rewrite`."""
    for cls in PASSES.values():
        if issubclass(cls, RewritePass) and cls.pattern is pattern:
            return cls()
    raise TersorError(f"pattern {pattern.name!r} is no pass yet: put @register_pass above its @rewrite")


def find_pass(name: str, others: Iterable[str] = ()) -> type[Pass]:
    """The pass of a name; plugins are loaded only when no other pass has it. others: further valid names, for the error."""
    if name in PASSES:
        return PASSES[name]
    failed = load_plugins()
    if name in PASSES:
        return PASSES[name]
    broken = f"; {'; '.join(failed.values())}" if failed else ""
    raise TersorError(f"unknown pass {name!r}{nearest(name, (*PASSES, *others))}; known: {', '.join(sorted(PASSES))}{broken}")
