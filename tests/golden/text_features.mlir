!q0 = !quant.uniform<i8<-127:127>:f32:0, {0.1, 1.0e-05:3, 0.25:-4}>
!q1 = !bits.affine<i1:0, {0.5:-0.25, 0.25:0.125}>
"func.func"() <{sym_name = "net", function_type = (tensor<1x2x4x4xf32>, tensor<3xi64>) -> (tensor<1x8x4x4xf32>, tensor<3x2x!q0>, tensor<2x!quant.uniform<u4:f32, 0.5:8>>, tensor<2x1x!q1>, tensor<2x!bits.affine<i1, 0.5, 0.25>>, tensor<1x1xbf16>, tensor<1x3x6x6x8xf32, #tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = -3>>, tensor<1x1x4x4x8x!quant.uniform<u8:f32, 0.02:3>, #tile.layout<"NCHW8c", channels = 8>>, tensor<3xi64>, tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>), arg_attrs = [{tersor.name = "image 0", tersor.batched}, {tersor.name = "y"}], res_attrs = [{tersor.name = "out 0"}, {tersor.name = "out 1"}, {tersor.name = "out 2"}, {tersor.name = "out 3"}, {tersor.name = "out 4"}, {tersor.name = "out 5"}, {tersor.name = "out 6"}, {tersor.name = "out 7"}, {tersor.name = "out 8"}, {tersor.name = "out 9"}, {tersor.name = "out 10"}]}> ({
^bb0(%image_0: tensor<1x2x4x4xf32>, %y: tensor<3xi64>):
  %_0.weight = "nn.constant"() {value = dense_resource<_0.weight> : tensor<4x2x1x1xf32>} : () -> tensor<4x2x1x1xf32> loc(fused<"0.weight">["0"("a b.py":3:0)])
  %conv = "nn.conv2d"(%image_0, %_0.weight) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x2x4x4xf32>, tensor<4x2x1x1xf32>) -> tensor<1x4x4x4xf32> loc("0"("a b.py":3:0))
  %copy_of_0 = "nn.constant"() {value = dense_resource<_0.weight> : tensor<4x2x1x1xf32>} : () -> tensor<4x2x1x1xf32> loc(fused<"copy of 0">[unknown])
  %conv_1 = "nn.conv2d"(%image_0, %copy_of_0) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x2x4x4xf32>, tensor<4x2x1x1xf32>) -> tensor<1x4x4x4xf32> loc(fused<"conv">["only_file.py":4:0])
  %0 = "nn.concat"(%conv, %conv_1) {axis = 1, operandSegmentSizes = array<i32: 2>} : (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> tensor<1x8x4x4xf32>
  %q = "nn.constant"() {value = dense_resource<q> : tensor<3x2xi8>} : () -> tensor<3x2x!q0>
  %1 = "nn.constant"() {value = dense_resource<constant> : tensor<2xui8>} : () -> tensor<2x!quant.uniform<u4:f32, 0.5:8>>
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<2x1xi8>} : () -> tensor<2x1x!q1>
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2xi8>} : () -> tensor<2x!bits.affine<i1, 0.5, 0.25>>
  %4 = "nn.constant"() {value = dense<0.000999451> : tensor<1x1xbf16>} : () -> tensor<1x1xbf16>
  %5 = "test.typed"(%image_0) {type = tensor<1x3x6x6x8xf32, #tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = -3>>} : (tensor<1x2x4x4xf32>) -> tensor<1x3x6x6x8xf32, #tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = -3>>
  %6 = "test.typed"(%0) {type = tensor<1x1x4x4x8x!quant.uniform<u8:f32, 0.02:3>, #tile.layout<"NCHW8c", channels = 8>>} : (tensor<1x8x4x4xf32>) -> tensor<1x1x4x4x8x!quant.uniform<u8:f32, 0.02:3>, #tile.layout<"NCHW8c", channels = 8>>
  %7 = "test.everything"(%y) {i = -3, f = 1.0e-05, b = true, s = "tab\09 \"quoted\" \\ \C3\A9", ints = array<i64: 1, -2>, floats = array<f64: 0.1, 0x7FF0000000000000, 3.0>, bools = array<i1: true, false>, words = ["a", "b"], mixed = [1, 2.0, true, "x", [], array<i64: 1>, [array<f64: 2.0>, none]], options = {k = 1, "a b" = {deep = array<i64: 1, 2>}, none = none, empty = {}}, maybe = none, mode = "b", elem = !quant.uniform<i8<-127:127>:f32:0, {0.1, 1.0e-05:3, 0.25:-4}>, type = tensor<2x3xui8>, layout = #tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = -3>} : (tensor<3xi64>) -> tensor<3xi64> loc("every.thing")
  %8 = "test.optional"(%y, %7, %y, %y) {operandSegmentSizes = array<i32: 1, 0, 1, 2>} : (tensor<3xi64>, tensor<3xi64>, tensor<3xi64>, tensor<3xi64>) -> tensor<3xi64>
  %left, %9 = "test.fused"(%conv, %conv_1) ({
  ^bb0(%conv_2: tensor<1x4x4x4xf32> loc("conv"), %b: tensor<1x4x4x4xf32>):
    %r = "nn.relu"(%conv_2) : (tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
    %10 = "nn.add"(%conv_2, %b) : (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
    "tile.yield"(%r, %10) {sym_name = "inner", output_names = ["first", "second"]} : (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> ()
  }) {note = "two results", operandSegmentSizes = array<i32: 2>} : (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>)
  "func.return"(%0, %q, %1, %2, %3, %4, %5, %6, %8, %left, %9) : (tensor<1x8x4x4xf32>, tensor<3x2x!q0>, tensor<2x!quant.uniform<u4:f32, 0.5:8>>, tensor<2x1x!q1>, tensor<2x!bits.affine<i1, 0.5, 0.25>>, tensor<1x1xbf16>, tensor<1x3x6x6x8xf32, #tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = -3>>, tensor<1x1x4x4x8x!quant.uniform<u8:f32, 0.02:3>, #tile.layout<"NCHW8c", channels = 8>>, tensor<3xi64>, tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> ()
}) {tersor.structure = "{\"dict\": [[\"a\", 0], [\"rest\", {\"list\": [1, 2, {\"tuple\": [3, 4, 5]}]}], [\"more\", {\"tuple\": [6, 7, null, {\"list\": [8, 9, 10]}]}]]}"} : () -> ()
