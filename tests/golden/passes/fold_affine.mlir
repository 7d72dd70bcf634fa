  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<6x2x3x3xf32>} : () -> tensor<6x2x3x3xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<6xf32>} : () -> tensor<6xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 2, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<6x2x3x3xf32>, tensor<6xf32>) -> tensor<1x6x4x4xf32>
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<6x1x1xf32>} : () -> tensor<6x1x1xf32>
  %4 = "nn.mul"(%2, %3) : (tensor<1x6x4x4xf32>, tensor<6x1x1xf32>) -> tensor<1x6x4x4xf32>
  %5 = "nn.constant"() {value = dense_resource<constant_3> : tensor<1x6x1x1xf32>} : () -> tensor<1x6x1x1xf32>
  %6 = "nn.add"(%4, %5) : (tensor<1x6x4x4xf32>, tensor<1x6x1x1xf32>) -> tensor<1x6x4x4xf32>
  %7 = "nn.relu"(%6) : (tensor<1x6x4x4xf32>) -> tensor<1x6x4x4xf32>
  %8 = "nn.pad"(%7) {pads = array<i64: 0, 0, 0, 0, 1, 0, 0, 1>, mode = "constant", value = 0.0} : (tensor<1x6x4x4xf32>) -> tensor<1x6x5x5xf32>
  %9 = "nn.avg_pool2d"(%8) {kernel = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, ceil_mode = false, count_include_pad = true} : (tensor<1x6x5x5xf32>) -> tensor<1x6x2x2xf32>
  "func.return"(%9) : (tensor<1x6x2x2xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<6x2x3x3xf32>} : () -> tensor<6x2x3x3xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<6xf32>} : () -> tensor<6xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 2, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<6x2x3x3xf32>, tensor<6xf32>) -> tensor<1x6x4x4xf32>
  %3 = "nn.relu"(%2) : (tensor<1x6x4x4xf32>) -> tensor<1x6x4x4xf32>
  %4 = "nn.avg_pool2d"(%3) {kernel = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 1, 0, 0, 1>, ceil_mode = false, count_include_pad = true} : (tensor<1x6x4x4xf32>) -> tensor<1x6x2x2xf32>
  "func.return"(%4) : (tensor<1x6x2x2xf32>) -> ()
