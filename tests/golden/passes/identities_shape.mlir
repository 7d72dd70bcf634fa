// moves_nothing: transpose(x, identity) -> x,   reshape(x, x.shape) -> x,   expand(x, x.shape) -> x
  %0 = "nn.transpose"(%x) {perm = array<i64: 0, 1, 2, 3>} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// moves_nothing: transpose(x, identity) -> x,   reshape(x, x.shape) -> x,   expand(x, x.shape) -> x
  %0 = "nn.reshape"(%x) {shape = array<i64: 2, 3, 4, 5>} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// moves_nothing: transpose(x, identity) -> x,   reshape(x, x.shape) -> x,   expand(x, x.shape) -> x
  %0 = "nn.expand"(%x) {shape = array<i64: -1, 3, -1, 5>} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// transpose_of_transpose: transpose(transpose(x, p), q) -> transpose(x, p[q])
  %0 = "nn.transpose"(%x) {perm = array<i64: 1, 2, 3, 0>} : (tensor<2x3x4x5xf32>) -> tensor<3x4x5x2xf32>
  %1 = "nn.transpose"(%0) {perm = array<i64: 0, 2, 1, 3>} : (tensor<3x4x5x2xf32>) -> tensor<3x5x4x2xf32>
  "func.return"(%1) : (tensor<3x5x4x2xf32>) -> ()
// ->
  %0 = "nn.transpose"(%x) {perm = array<i64: 1, 3, 2, 0>} : (tensor<2x3x4x5xf32>) -> tensor<3x5x4x2xf32>
  "func.return"(%0) : (tensor<3x5x4x2xf32>) -> ()

// reshape_of_reshape: reshape(reshape(x, s), t) -> reshape(x, t)
  %0 = "nn.reshape"(%x) {shape = array<i64: -1, 20>} : (tensor<2x3x4x5xf32>) -> tensor<6x20xf32>
  %1 = "nn.reshape"(%0) {shape = array<i64: -1, 12, 5>} : (tensor<6x20xf32>) -> tensor<2x12x5xf32>
  "func.return"(%1) : (tensor<2x12x5xf32>) -> ()
// ->
  %0 = "nn.reshape"(%x) {shape = array<i64: -1, 12, 5>} : (tensor<2x3x4x5xf32>) -> tensor<2x12x5xf32>
  "func.return"(%0) : (tensor<2x12x5xf32>) -> ()

// expand_of_expand: expand(expand(x, s), t) -> expand(x, t), where a dimension that t keeps has its size from s
  %0 = "nn.expand"(%x) {shape = array<i64: -1, 3, 4>} : (tensor<2x1x4xf32>) -> tensor<2x3x4xf32>
  %1 = "nn.expand"(%0) {shape = array<i64: 2, -1, -1, -1>} : (tensor<2x3x4xf32>) -> tensor<2x2x3x4xf32>
  "func.return"(%1) : (tensor<2x2x3x4xf32>) -> ()
// ->
  %0 = "nn.expand"(%x) {shape = array<i64: 2, -1, 3, 4>} : (tensor<2x1x4xf32>) -> tensor<2x2x3x4xf32>
  "func.return"(%0) : (tensor<2x2x3x4xf32>) -> ()

// expand_is_broadcast: f(expand(x), y) -> f(x, y)   where y gives the result its shape
  %0 = "nn.expand"(%x1) {shape = array<i64: 2, 3, 4, 5>} : (tensor<2x1x4x1xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.add"(%0, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.add"(%x1, %x) : (tensor<2x1x4x1xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// expand_is_broadcast: f(expand(x), y) -> f(x, y)   where y gives the result its shape
  %0 = "nn.expand"(%x1) {shape = array<i64: 2, 3, 4, 5>} : (tensor<2x1x4x1xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.less"(%0, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xi1>
  %2 = "nn.neg"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %3 = "nn.where"(%1, %x, %2) : (tensor<2x3x4x5xi1>, tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%3) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.less"(%x1, %x) : (tensor<2x1x4x1xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xi1>
  %1 = "nn.neg"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.where"(%0, %x, %1) : (tensor<2x3x4x5xi1>, tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%2) : (tensor<2x3x4x5xf32>) -> ()

// moved_and_back: move⁻¹(f(move(x))) -> f(x)   for an elementwise f of one operand, where its result is read once
  %0 = "nn.transpose"(%x) {perm = array<i64: 0, 2, 3, 1>} : (tensor<2x3x4x5xf32>) -> tensor<2x4x5x3xf32>
  %1 = "nn.abs"(%0) : (tensor<2x4x5x3xf32>) -> tensor<2x4x5x3xf32>
  %2 = "nn.transpose"(%1) {perm = array<i64: 0, 3, 1, 2>} : (tensor<2x4x5x3xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%2) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.abs"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// moved_and_back: move⁻¹(f(move(x))) -> f(x)   for an elementwise f of one operand, where its result is read once
  %0 = "nn.reshape"(%x) {shape = array<i64: -1, 60>} : (tensor<2x3x4x5xf32>) -> tensor<2x60xf32>
  %1 = "nn.neg"(%0) : (tensor<2x60xf32>) -> tensor<2x60xf32>
  %2 = "nn.reshape"(%1) {shape = array<i64: 2, 3, 4, 5>} : (tensor<2x60xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%2) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.neg"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// slice_of_all: x[0:size] -> x
  %0 = "nn.slice"(%x) {axis = 2, start = 0, stop = 4, step = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// slice_of_slice: x[a:b:s][c:d:t] -> x[a + c*s : … : s*t]   along one axis
  %0 = "nn.slice"(%x) {axis = 3, start = 1, stop = 5, step = 2} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x2xf32>
  %1 = "nn.slice"(%0) {axis = 3, start = 1, stop = 2, step = 1} : (tensor<2x3x4x2xf32>) -> tensor<2x3x4x1xf32>
  "func.return"(%1) : (tensor<2x3x4x1xf32>) -> ()
// ->
  %0 = "nn.slice"(%x) {axis = 3, start = 3, stop = 4, step = 2} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x1xf32>
  "func.return"(%0) : (tensor<2x3x4x1xf32>) -> ()

// slice_of_slice: x[a:b:s][c:d:t] -> x[a + c*s : … : s*t]   along one axis
  %0 = "nn.slice"(%x) {axis = 1, start = 1, stop = 12, step = 1} : (tensor<2x13xf32>) -> tensor<2x11xf32>
  %1 = "nn.slice"(%0) {axis = 1, start = 2, stop = 11, step = 3} : (tensor<2x11xf32>) -> tensor<2x3xf32>
  "func.return"(%1) : (tensor<2x3xf32>) -> ()
// ->
  %0 = "nn.slice"(%x) {axis = 1, start = 3, stop = 10, step = 3} : (tensor<2x13xf32>) -> tensor<2x3xf32>
  "func.return"(%0) : (tensor<2x3xf32>) -> ()

// slice_of_concat: concat(…, x, …)[from within x] -> x[…]
  %0 = "nn.concat"(%x, %x1) {axis = 1, operandSegmentSizes = array<i32: 2>} : (tensor<2x3x4xf32>, tensor<2x3x4xf32>) -> tensor<2x6x4xf32>
  %1 = "nn.slice"(%0) {axis = 1, start = 3, stop = 5, step = 1} : (tensor<2x6x4xf32>) -> tensor<2x2x4xf32>
  "func.return"(%1) : (tensor<2x2x4xf32>) -> ()
// ->
  %0 = "nn.slice"(%x1) {axis = 1, start = 0, stop = 2, step = 1} : (tensor<2x3x4xf32>) -> tensor<2x2x4xf32>
  "func.return"(%0) : (tensor<2x2x4xf32>) -> ()

// concat_of_one: concat(x) -> x
  %0 = "nn.concat"(%x) {axis = 1, operandSegmentSizes = array<i32: 1>} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// concat_of_concat: concat(a, concat(b, c)) -> concat(a, b, c)   along one axis, where the inner one is read once
  %0 = "nn.neg"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.concat"(%0, %x) {axis = 1, operandSegmentSizes = array<i32: 2>} : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x6x4x5xf32>
  %2 = "nn.concat"(%x, %1, %x) {axis = 1, operandSegmentSizes = array<i32: 3>} : (tensor<2x3x4x5xf32>, tensor<2x6x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x12x4x5xf32>
  "func.return"(%2) : (tensor<2x12x4x5xf32>) -> ()
// ->
  %0 = "nn.neg"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.concat"(%x, %0, %x, %x) {axis = 1, operandSegmentSizes = array<i32: 4>} : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x12x4x5xf32>
  "func.return"(%1) : (tensor<2x12x4x5xf32>) -> ()

// concat_of_slices: concat(…, x[a:b], x[b:c], …) -> concat(…, x[a:c], …)
  %0 = "nn.slice"(%x) {axis = 3, start = 0, stop = 2, step = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x2xf32>
  %1 = "nn.slice"(%x) {axis = 3, start = 2, stop = 3, step = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x1xf32>
  %2 = "nn.slice"(%x) {axis = 3, start = 3, stop = 5, step = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x2xf32>
  %3 = "nn.concat"(%0, %1, %2) {axis = 3, operandSegmentSizes = array<i32: 3>} : (tensor<2x3x4x2xf32>, tensor<2x3x4x1xf32>, tensor<2x3x4x2xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%3) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.slice"(%x) {axis = 3, start = 0, stop = 5, step = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.concat"(%0) {axis = 3, operandSegmentSizes = array<i32: 1>} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// pad_by_nothing: pad(x, 0, …, 0) -> x
  %0 = "nn.pad"(%x) {pads = array<i64: 0, 0, 0, 0, 0, 0, 0, 0>, mode = "constant", value = 0.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// pad_of_pad: pad(pad(x, p), q) -> pad(x, p + q)   of one constant, none cropping
  %0 = "nn.pad"(%x) {pads = array<i64: 0, 0, 0, 0, 1, 2, 3, 0>, mode = "constant", value = 1.5} : (tensor<2x3x4x5xf32>) -> tensor<2x3x7x8xf32>
  %1 = "nn.pad"(%0) {pads = array<i64: 0, 0, 1, 0, 0, 0, 1, 1>, mode = "constant", value = 1.5} : (tensor<2x3x7x8xf32>) -> tensor<2x4x7x10xf32>
  "func.return"(%1) : (tensor<2x4x7x10xf32>) -> ()
// ->
  %0 = "nn.pad"(%x) {pads = array<i64: 0, 0, 1, 0, 1, 2, 4, 1>, mode = "constant", value = 1.5} : (tensor<2x3x4x5xf32>) -> tensor<2x4x7x10xf32>
  "func.return"(%0) : (tensor<2x4x7x10xf32>) -> ()

// index_to_slice: x[[a, a+s, a+2s, …]] -> x[a::s]
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<2xi64>} : () -> tensor<2xi64>
  %1 = "nn.index_select"(%x, %0) {axis = 3} : (tensor<2x3x4x5xf32>, tensor<2xi64>) -> tensor<2x3x4x2xf32>
  "func.return"(%1) : (tensor<2x3x4x2xf32>) -> ()
// ->
  %0 = "nn.slice"(%x) {axis = 3, start = 1, stop = 4, step = 2} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x2xf32>
  "func.return"(%0) : (tensor<2x3x4x2xf32>) -> ()

// index_to_slice: x[[a, a+s, a+2s, …]] -> x[a::s]
  %0 = "nn.constant"() {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
  %1 = "nn.index_select"(%x, %0) {axis = 1} : (tensor<2x3x4x5xf32>, tensor<1xi64>) -> tensor<2x1x4x5xf32>
  "func.return"(%1) : (tensor<2x1x4x5xf32>) -> ()
// ->
  %0 = "nn.slice"(%x) {axis = 1, start = 2, stop = 3, step = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x1x4x5xf32>
  "func.return"(%0) : (tensor<2x1x4x5xf32>) -> ()

// shuffle_by_hand: reshape(transpose(reshape(x, [N, g, C/g, …]), [0, 2, 1, …]), x.shape) -> channel_shuffle(x, g)
  %0 = "nn.reshape"(%x) {shape = array<i64: -1, 2, 3, 4, 5>} : (tensor<2x6x4x5xf32>) -> tensor<2x2x3x4x5xf32>
  %1 = "nn.transpose"(%0) {perm = array<i64: 0, 2, 1, 3, 4>} : (tensor<2x2x3x4x5xf32>) -> tensor<2x3x2x4x5xf32>
  %2 = "nn.reshape"(%1) {shape = array<i64: -1, 6, 4, 5>} : (tensor<2x3x2x4x5xf32>) -> tensor<2x6x4x5xf32>
  "func.return"(%2) : (tensor<2x6x4x5xf32>) -> ()
// ->
  %0 = "nn.channel_shuffle"(%x) {groups = 2} : (tensor<2x6x4x5xf32>) -> tensor<2x6x4x5xf32>
  "func.return"(%0) : (tensor<2x6x4x5xf32>) -> ()

// shuffles_nothing: channel_shuffle(x, 1 or C) -> x,   pixel_shuffle(x, 1) -> x,   pixel_unshuffle(x, 1) -> x
  %0 = "nn.channel_shuffle"(%x) {groups = 3} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// shuffles_nothing: channel_shuffle(x, 1 or C) -> x,   pixel_shuffle(x, 1) -> x,   pixel_unshuffle(x, 1) -> x
  %0 = "nn.pixel_unshuffle"(%x) {factor = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.pixel_shuffle"(%0) {factor = 1} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// shuffle_and_back: pixel_shuffle(pixel_unshuffle(x, f), f) -> x,   and the other way round
  %0 = "nn.pixel_unshuffle"(%x) {factor = 2} : (tensor<2x3x4x4xf32>) -> tensor<2x12x2x2xf32>
  %1 = "nn.pixel_shuffle"(%0) {factor = 2} : (tensor<2x12x2x2xf32>) -> tensor<2x3x4x4xf32>
  "func.return"(%1) : (tensor<2x3x4x4xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x4xf32>) -> ()

// resize_to_same: upsample(x, size of x) -> x   for nearest without explicit scales
  %0 = "nn.upsample"(%x) {size = array<i64: 4, 5>, mode = "nearest", align_corners = false} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()
