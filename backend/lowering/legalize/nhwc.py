"""Transposes between feature maps and NHWC, around layer norms, linear layers and attention, so that they read and write blocked feature maps."""

from __future__ import annotations

from ....ir.op import Value
from ....ir.ops import Elementwise, Reshape, Transpose
from ....ir.rewrite import Result, rewrite
from ...tile.moves import FromNhwc, ToNhwc
from ...tile.ops import INTEGERS
from .channels import is_map, same_kind


def feeds_map(v: Value) -> bool:
    """Whether a reader, possibly through elementwise ops, reads the value blocked: a convolution, pool, …, or an op on it and a feature map."""
    seen: set[Value] = set()
    stack = [v]
    while stack:
        u = stack.pop()
        if u in seen or u.type.rank != 4 or u.type.elem not in ("f32", *INTEGERS) or not same_kind(u, v):
            continue
        seen.add(u)
        for user in u.users:
            if user.feature_map:
                return True
            if isinstance(user, Elementwise) and user.out.shape == u.shape:
                if any(is_map(o) for o in user.operands if o is not u and o.shape == u.shape):
                    return True
                stack.append(user.out)
    return False


@rewrite
def rows_of_map(op: Transpose) -> Result:
    """transpose(x, [0, 2, 3, 1]) -> to_nhwc(x)   of a feature map;   transpose(reshape(x, [N, C, H*W]), [0, 2, 1]) -> reshape(to_nhwc(x))"""
    if op.perm == (0, 2, 3, 1) and is_map(op.x):
        return ToNhwc(op.x, loc=op.loc)
    match op.x.op:
        case Reshape(x=x) as flat if op.perm == (0, 2, 1) and is_map(x) and flat.out.shape == (*x.shape[:2], x.shape[2] * x.shape[3]):
            return Reshape(ToNhwc(x, loc=op.loc), op.out.shape, loc=op.loc)
    return None


@rewrite
def map_of_rows(op: Transpose) -> Result:
    """transpose(x, [0, 3, 1, 2]) -> from_nhwc(x)   where a feature map is wanted"""
    return FromNhwc(op.x, loc=op.loc) if op.perm == (0, 3, 1, 2) and feeds_map(op.out) else None


@rewrite
def map_of_flat_rows(op: Reshape) -> Result:
    """reshape(transpose(x, [0, 2, 1]), [N, C, H, W]) -> from_nhwc(reshape(x, [N, H, W, C]))   where a feature map is wanted"""
    match op.x.op:
        case Transpose(x=x, perm=(0, 2, 1)) if op.out.type.rank == 4 and op.out.shape[:2] == op.x.shape[:2] and feeds_map(op.out):
            n, c, h, w = op.out.shape
            return FromNhwc(Reshape(x, (n, h, w, c), loc=op.loc).out, loc=op.loc)
    return None


RULES = (rows_of_map, map_of_rows, map_of_flat_rows)
