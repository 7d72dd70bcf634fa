"""Pipeline strings, files and presets; every error names its column and what is valid."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.ir import Graph, TersorError
from tersor.ir import ops as nn
from tersor.ir.rewrite import Result, rewrite
from tersor.passes import PRESETS, Context, LayerPass, Pass, Pipeline, find_pass, register_pass
from tersor.passes.cleanup.canonicalize import Canonicalize
from tersor.passes.folding.fold_bn import FoldBatchNorm


@register_pass
@dataclass(frozen=True)
class Options(LayerPass):
    """One option of each type."""

    name = "test-options"
    keeps = "exact"

    ratio: float = 0.5
    round_to: int = 8
    verbose: bool = False
    mode: Literal["l1", "lasso"] = "l1"
    title: str = ""
    sizes: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    limits: dict[str, list[float]] | None = None
    anything: Any = None

    def run(self, graph: Graph, ctx: Context) -> None:
        pass


@register_pass
@dataclass(frozen=True)
class Required(Pass):
    """An option without a default."""

    name = "test-required"
    keeps = "lossy"
    bits: int

    def run(self, graph: Graph, ctx: Context) -> None:
        pass


def only(text: str) -> Any:
    (one,) = Pipeline.parse(text)
    return one


# -- what is read ------------------------------------------------------------------------------


def test_passes_in_order() -> None:
    assert list(Pipeline.parse(" fold-bn , canonicalize,fold-bn")) == [FoldBatchNorm(), Canonicalize(), FoldBatchNorm()]


def test_an_empty_pipeline() -> None:
    assert len(Pipeline.parse("")) == 0
    assert str(Pipeline.parse("  # nothing yet\n")) == ""


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("ratio=0.25", "ratio", 0.25),
        ("ratio=1", "ratio", 1.0),
        ("ratio=-1e-3", "ratio", -1e-3),
        ("ratio=.5", "ratio", 0.5),
        ("ratio=inf", "ratio", float("inf")),
        ("ratio=-inf", "ratio", -float("inf")),
        ("round_to=-4", "round_to", -4),
        ("verbose=true", "verbose", True),
        ("mode=lasso", "mode", "lasso"),
        ('title="a, b} \\"c\\" é"', "title", 'a, b} "c" é'),
        ("title='it is # no comment'", "title", "it is # no comment"),
        ("title=a-b.c", "title", "a-b.c"),
        ("sizes=[1 2, 3]", "sizes", (1, 2, 3)),
        ("sizes=[]", "sizes", ()),
        ("pair=[3, 4]", "pair", (3, 4.0)),
        ("limits={a=[1] 'b c': [2 3.5]}", "limits", {"a": [1.0], "b c": [2.0, 3.5]}),
        ("limits=none", "limits", None),
        ("anything={0: 1 -2=3}", "anything", {0: 1, -2: 3}),
        ("anything={a=[true {b=none}]}", "anything", {"a": [True, {"b": None}]}),
        ("ratio : 0.25 , ", "ratio", 0.25),
    ],
)
def test_values(text: str, field: str, value: Any) -> None:
    got = getattr(only(f"test-options{{{text}}}"), field)
    assert got == value
    assert type(got) is type(value)


def test_options_of_layers() -> None:
    one = only('test-options{ratio=0.5 round_to=4 layers={"features.0.*": {ratio=0} "*.act": {verbose=true}}}')
    assert one.layers == {"features.0.*": {"ratio": 0}, "*.act": {"verbose": True}}


def test_separators_may_be_commas_spaces_or_lines() -> None:
    same = [Pipeline.parse(f"test-options {{ratio=1{s}round_to=2}}") for s in (" ", ", ", ",\n", "\n\t", " # one\n")]
    assert all(p == same[0] for p in same)


# -- what is printed ---------------------------------------------------------------------------


def test_only_changed_options_are_printed() -> None:
    text = 'test-options{ratio=0.25 verbose=true title="x y" sizes=[1, 2] limits={a=[1.0] "b c": []}},fold-bn'
    assert str(Pipeline.parse(text)) == text
    assert str(Pipeline.parse("test-options{ratio=0.5 verbose=false}")) == "test-options"


words = st.text(min_size=0, max_size=8)
plain = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), words, st.none())
nested = st.recursive(plain, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(words, v, max_size=3)), max_leaves=8)


@given(
    ratio=st.floats(allow_nan=False),
    round_to=st.integers(),
    title=words,
    sizes=st.lists(st.integers()).map(tuple),
    limits=st.none() | st.dictionaries(words, st.lists(st.floats(allow_nan=False), max_size=3), max_size=3),
    anything=nested,
    layers=st.dictionaries(words, st.fixed_dictionaries({}, optional={"ratio": st.floats(allow_nan=False), "title": words}), max_size=2),
)
def test_what_is_printed_reads_back(**options: Any) -> None:
    pipeline = Pipeline((Options(**options), FoldBatchNorm()))
    again = Pipeline.parse(str(pipeline))
    assert again == pipeline
    assert str(again) == str(pipeline)


# -- presets, files, objects -------------------------------------------------------------------


def test_presets_are_written_out() -> None:
    assert str(Pipeline.parse("default")) == PRESETS["default"].pipeline
    assert str(Pipeline.parse("clean,fold-bn")) == "canonicalize,fold-bn"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_and_says_why(name: str) -> None:
    assert len(Pipeline.parse(name)) > 0
    assert PRESETS[name].why.endswith(".")


def test_no_preset_hides_a_pass() -> None:
    for name in PRESETS:
        with pytest.raises(TersorError, match="unknown pass"):
            find_pass(name)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.pipeline").write_text("fold-bn # folded\n")
    (tmp_path / "outer.pipeline").write_text("# two\ncanonicalize,\n@sub/inner.pipeline\n")
    expected = "canonicalize,fold-bn"
    assert str(Pipeline.read(tmp_path / "outer.pipeline")) == expected
    assert str(Pipeline.of(tmp_path / "outer.pipeline")) == expected
    assert str(Pipeline.parse(f"@{tmp_path}/outer.pipeline,fold-bn")) == expected + ",fold-bn"


def test_objects() -> None:
    pipeline = Pipeline.of(["fold-bn,canonicalize", FoldBatchNorm(), Options(ratio=0.25), Canonicalize, registered_pattern])
    assert str(pipeline) == "fold-bn,canonicalize,fold-bn,test-options{ratio=0.25},canonicalize,registered-pattern"
    assert Pipeline.of(pipeline) is pipeline


@register_pass
@rewrite
def registered_pattern(op: nn.Relu) -> Result:
    """relu(relu(x)) -> relu(x)"""
    return op.x if isinstance(op.x.op, nn.Relu) else None


@rewrite
def unregistered(op: nn.Relu) -> Result:
    """relu(x) -> relu(x)"""
    return None


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("fold-bnn", 1, r"unknown pass 'fold-bnn' (did you mean 'fold-bn'?); known: adaround, argmax-output, binarize, canonicalize,"),
        ("canonicalize,defalt", 14, r"unknown pass 'defalt' (did you mean 'default'?); known: adaround,"),
        ("canonicalize fold-bn", 14, "expected ',' or the end of the pipeline, got 'f'"),
        ("fold-bn,", 9, "expected a pass after ',', got the end"),
        (",fold-bn", 1, "expected a pass, a preset or '@file', got ','"),
        ("fold-bn{", 9, "expected an option name or '}', got the end"),
        ("test-options{ratio}", 19, "expected '=' after 'ratio', got '}'"),
        ("test-options{ratio=}", 20, "expected a value (a number, true, false, none, a word"),
        ("test-options{ratio=0.5", 23, "expected ',' or '}', got the end"),
        ("test-options{ratio=0.5x}", 20, "'0.5x' is not a number (quote it if it is a string)"),
        ("test-options{ratio=--1}", 20, "expected a number, got '-'"),
        ("test-options{ratio=0.5 ratio=1}", 24, "option 'ratio' is given twice"),
        ('test-options{title="open}', 20, "expected a closing quote"),
        (r'test-options{title="\q"}', 20, "is not a string"),
        ("test-options{sizes=[1 2}", 24, "expected ',' or ']', got '}'"),
        ("test-options{sizes=[1 2,", 25, "expected a value"),
        ("test-options{limits={a=[1]b=[2]}}", 27, "expected ',' or '}', got 'b'"),
        ("test-options{ratoi=1}", 14, "pass 'test-options' has no option 'ratoi' (did you mean 'ratio'?); valid: layers, ratio, round_to, verbose"),
        ("fold-bn{x=1}", 9, "pass 'fold-bn' has no option 'x'; valid: none"),
        ("clean,test-options{ratio=high}", 20, "pass 'test-options', option 'ratio': expected float, got \"high\""),
        ("test-options{round_to=1.5}", 14, "option 'round_to': expected int, got 1.5"),
        ("test-options{round_to=true}", 14, "option 'round_to': expected int, got true"),
        ("test-options{ratio=true}", 14, "option 'ratio': expected float, got true"),
        ("test-options{verbose=1}", 14, "option 'verbose': expected true or false, got 1"),
        ("test-options{mode=l2}", 14, 'option \'mode\': expected one of "l1", "lasso", got "l2"'),
        ("test-options{title=3}", 14, "option 'title': expected a string, got 3"),
        ("test-options{sizes=[1 a]}", 14, 'option \'sizes\': expected int, got [1, "a"] (at "a")'),
        ("test-options{sizes=3}", 14, "option 'sizes': expected a list of int, got 3; a list of one is [3]"),
        ("test-options{sizes=x}", 14, "option 'sizes': expected a list of int, got \"x\""),
        ("test-options{pair=[1]}", 14, "option 'pair': expected a list of 2: int, float, got [1]"),
        ("test-options{limits=3}", 14, "option 'limits': expected a dict of a list of float by a string or none, got 3"),
        ("test-options{layers={a={ratoi=1}}}", 14, "has no option 'ratoi'"),
        ("test-options{layers={a={ratio=x}}}", 14, "option 'ratio': expected float"),
        ("test-options{layers={a={layers={}}}}", 14, "the options of layer 'a' cannot hold 'layers'"),
        ("test-options{ratio=1 round_to=1.5}", 22, "option 'round_to': expected int"),
        ("test-required", 1, "pass 'test-required' needs the option 'bits': test-required{bits=...}"),
        ("fold-bn,clean{x=1}", 9, "preset 'clean' takes no options; write out its passes: canonicalize"),
        ("@", 2, "expected a file name after '@', got the end"),
        ("fold-bn,@nowhere.pipeline", 9, "there is no pipeline file nowhere.pipeline"),
    ],
)
def test_errors_give_the_column(text: str, column: int, message: str) -> None:
    with pytest.raises(TersorError) as caught:
        Pipeline.parse(text)
    assert str(caught.value).startswith(f"pipeline {text!r}, column {column}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_in_files_give_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.pipeline"
    path.write_text("canonicalize,\n  # folded\n  fold-bnn\n")
    with pytest.raises(TersorError, match=re.escape(f"pipeline file {path}, line 3, column 3: unknown pass 'fold-bnn'")):
        Pipeline.read(path)


def test_a_string_of_several_lines_gives_the_line() -> None:
    with pytest.raises(TersorError, match="line 2, column 2: unknown pass"):
        Pipeline.parse("canonicalize,\n nothing")


def test_a_file_that_reads_itself(tmp_path: Path) -> None:
    (tmp_path / "a.pipeline").write_text("@b.pipeline")
    (tmp_path / "b.pipeline").write_text("fold-bn,@a.pipeline")
    with pytest.raises(TersorError, match=r"b\.pipeline, line 1, column 9: file .*a\.pipeline reads itself"):
        Pipeline.read(tmp_path / "a.pipeline")


def test_a_missing_file() -> None:
    with pytest.raises(TersorError, match="cannot read the pipeline file nowhere: No such file"):
        Pipeline.read("nowhere")


@pytest.mark.parametrize(
    ("what", "message"), [(3, "got int"), (unregistered, "'unregistered' is no pass yet: put @register_pass"), (["fold-bn", 3], "got int")]
)
def test_what_is_no_pipeline(what: Any, message: str) -> None:
    with pytest.raises(TersorError, match=message):
        Pipeline.of(what)


def test_options_are_checked_in_python_too() -> None:
    with pytest.raises(TersorError, match="pass 'test-options', option 'ratio': expected float, got \"high\""):
        Options(ratio="high")  # type: ignore[arg-type]
