"func.func"() <{sym_name = "main", function_type = (tensor<1x3x8x8xf32>) -> tensor<1x4x8x8xf32>, arg_attrs = [{tersor.name = "x", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%x: tensor<1x3x8x8xf32>):
  %features.0.weight = "nn.constant"() {value = dense_resource<features.0.weight> : tensor<4x3x3x3xf32>} : () -> tensor<4x3x3x3xf32> loc("features.0"("model.py":12:0))
  %features.0 = "nn.conv2d"(%x, %features.0.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x8x8xf32> loc("features.0"("model.py":12:0))
  %0 = "nn.relu"(%features.0) : (tensor<1x4x8x8xf32>) -> tensor<1x4x8x8xf32> loc("features.1")
  %1 = "nn.constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %2 = "nn.add"(%0, %1) : (tensor<1x4x8x8xf32>, tensor<f32>) -> tensor<1x4x8x8xf32>
  "func.return"(%2) : (tensor<1x4x8x8xf32>) -> ()
}) : () -> ()
