"""assign-layouts: feature maps become blocked, NCHW<lanes>c, where their kernels need it; packs and unpacks convert between plain and blocked.

    conv2d(x plain) ; conv2d ; flatten   =>   conv2d -> blocked ; conv2d blocked -> blocked ; unpack ; flatten

A value is converted at most once, and only when a reader needs the other form, so an unpack is never followed by a pack. The first
convolution of a network reads few channels, so it reads plain planes. Integer feature maps have blocks of 16 channels on every target, and
of 4 where a convolution reads at most 4 channels. Conversions between f32 and integers are in plain order, except for the input image.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph import Graph, remapped, remapped_fields
from ...ir.op import Const, Op, Value
from ...ir.ops import Conv2d, Elementwise
from ..tile import moves as tile_moves
from ..tile import ops as tile
from ..tile.bits import BitConv2d, PackLevels
from ..tile.integer import IntConv2d
from ..tile.ops import INTEGER_BLOCK, INTEGERS
from .fuse_epilogues import readable, wrap
from .own_outputs import copied_outputs

#: A convolution with at most this many input channels reads plain planes: in blocks most lanes would be empty.
PLANES = 4


def assign_layouts(graph: Graph, lanes: int) -> Graph:
    """A new graph whose fusions work on blocked feature maps: of `lanes` channels in f32, of 16 in integers."""
    return _Layout(graph, lanes).run()


class _Layout:
    def __init__(self, graph: Graph, lanes: int):
        self.old = graph
        self.lanes = lanes
        self.blocked = {form.plain: form for form in tile.Blocked.__subclasses__()}
        self.new = Graph(graph.name)
        #: old value -> its form in the new graph, by block size (0 = plain)
        self.forms: dict[tuple[Value, int], Value] = {}

    def run(self) -> Graph:
        for v in self.old.inputs:
            self.forms[v, 0] = self.new.add_input(v.type, v.name, v.name in self.old.batched)
        for op in self.old.ops:
            if isinstance(op, tile.Fused):
                self._region(op)
            else:
                self._emit(op, remapped(op, {v: self._form(v, 0) for v in op.operands}), 0)
        self.new.set_outputs(copied_outputs(self.new, [self._form(v, 0) for v in self.old.outputs]), self.old.output_names, self.old.structure)
        self.new.remove_dead()
        return self.new

    def _emit(self, old: Op, new: Op, block: int) -> None:
        value = self.new.add(new)
        value.name = old.out.name
        self.forms[old.out, block] = value

    def _form(self, v: Value, block: int) -> Value:
        """The value as plain or blocked, converted where that form does not exist yet."""
        if (v, block) not in self.forms:
            source = self.forms.get((v, 0)) or next(form for (u, _), form in self.forms.items() if u is v)
            if block and source.type.layout is not None:
                # from one block size to another
                source = self._form(v, 0)
            if block and isinstance(source.op, Const):
                packed = tile.pack_array(source.op.array, block)
                form = self.new.add(Const(packed, None, tile.blocked_type(source.type, block).layout, loc=source.op.loc))
            elif block == PLANES and (rounded := self._packed_first(v, source)) is not None:
                form = self.new.add(rounded)
            else:
                op: Op = tile.Pack(source, block) if block else tile.Unpack(source)
                op.loc = v.op.loc if v.op else op.loc
                self.new.add(op)
                form = wrap(self.new, [op]).out
            form.name = f"{v.name}_{'blocked' if block else 'plain'}" if v.name else ""
            self.forms[v, block] = form
        return self.forms[v, block]

    def _packed_first(self, v: Value, source: Value) -> tile.Fused | None:
        """Pack the operand instead of the result, where the result, an integer feature map made from floats and scalars, has no other reader.

        rescale(x) ; pack   =>   pack(x) ; rescale
        """
        fused = source.op
        if not isinstance(fused, tile.Fused) or len(v.uses) != 1 or not all(isinstance(op, Elementwise) for op in fused.body.ops):
            return None
        maps = [i for i in fused.body.inputs if i.type.size > 1]
        if source.type.elem not in INTEGERS or len(maps) != 1 or maps[0].type != replace(source.type, elem="f32"):
            return None
        body = Graph(fused.body.name)
        inner: dict[Value, Value] = {old: body.add_input(old.type, old.name) for old in fused.body.inputs}
        inner[maps[0]] = body.add(tile.Pack(inner[maps[0]], PLANES, loc=fused.loc))
        for step in fused.body.ops:
            inner[step.out] = body.add(remapped(step, inner))
        body.set_outputs([inner[o] for o in fused.body.outputs])
        return tile.Fused(fused.args, body, loc=fused.loc)

    def _region(self, op: tile.Fused) -> None:
        out = self._blocks(op)
        blocks = [self._operand_block(op, v, inner, out) for v, inner in zip(op.args, op.body.inputs)]
        args = [self._form(v, b) for v, b in zip(op.args, blocks)]
        body = Graph(op.body.name)
        inner: dict[Value, Value] = {old: body.add_input(new.type, old.name) for old, new in zip(op.body.inputs, args)}
        for step in op.body.ops:
            copy = self._blocked(step, inner, out) if out and type(step) in self.blocked else remapped(step, inner)
            body.add(copy)
            inner[step.out] = copy.out
        body.set_outputs([inner[v] for v in op.body.outputs])
        self._emit(op, tile.Fused(args, body, loc=op.loc), out)

    def _blocked(self, op: Op, inner: dict[Value, Value], block: int) -> Op:
        fields = remapped_fields(op, inner)
        return self.blocked[type(op)](**fields, lanes=block, loc=op.loc)

    def _blocks(self, op: tile.Fused) -> int:
        """Block size of the fusion's result."""
        anchor = op.body.ops[0]
        if type(anchor) in self.blocked and anchor.out.type.elem in ("f32", *INTEGERS):
            # sums of few bits that become floats in the epilogue have the layout of floats
            elem = op.out.type.elem if isinstance(anchor, BitConv2d) else anchor.out.type.elem
            return self.lanes if elem == "f32" else INTEGER_BLOCK
        if isinstance(anchor, Elementwise) and op.out.type.rank == 4 and self._among_integers(op):
            return INTEGER_BLOCK
        if isinstance(anchor, Elementwise) and op.out.type.rank == 4 and op.out.type.is_float:
            some_blocked = any((v, self.lanes) in self.forms and v.type == op.out.type for v in op.args)
            uniform = all(v.type.is_float and readable(v, op.out) for v in op.args) and all(o.out.type == op.out.type for o in op.body.ops)
            return self.lanes if some_blocked and uniform else 0
        return 0

    def _among_integers(self, op: tile.Fused) -> bool:
        """Whether an elementwise fusion reads blocked integer feature maps, and no operand that does not fit blocks."""
        maps = [v for v in op.args if v.shape == op.out.shape and v.type.elem in INTEGERS]
        tables = {v for step in op.body.ops if isinstance(step, Elementwise) for v in step.operands if v not in step.by_element}
        readers = all(readable(v, op.out) for v, inner in zip(op.args, op.body.inputs) if inner not in tables)
        same = all(step.out.shape == op.out.shape for step in op.body.ops)
        return same and readers and any((v, INTEGER_BLOCK) in self.forms for v in maps)

    def _operand_block(self, op: tile.Fused, v: Value, inner: Value, out: int) -> int:
        """The block size in which the fusion reads an operand (0 = plain)."""
        anchor = op.body.ops[0]
        if isinstance(anchor, tile_moves.ToNhwc | PackLevels) and inner is anchor.x:
            return 0 if (v, 0) in self.forms else INTEGER_BLOCK if v.type.elem in INTEGERS else self.lanes
        if not out or v.type.rank != 4 or v.type.size == 1 or (isinstance(anchor, tile_moves.FromNhwc) and inner is anchor.x):
            return 0
        if isinstance(anchor, (Conv2d, IntConv2d)):
            if inner in (anchor.w, anchor.b):
                return 0
            if inner is anchor.x and v.shape[1] <= PLANES and anchor.groups == 1 and (v, 0) in self.forms and len(anchor.x.uses) == 1:
                # blocks of 16 would be mostly empty
                return PLANES if isinstance(anchor, IntConv2d) else 0
        return out
