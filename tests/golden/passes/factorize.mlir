// input
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<8x6x3x3xf32>} : () -> tensor<8x6x3x3xf32> loc("layer"("net.py":3:0))
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<8xf32>} : () -> tensor<8xf32> loc("layer"("net.py":3:0))
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x8x8xf32>, tensor<8x6x3x3xf32>, tensor<8xf32>) -> tensor<1x8x4x4xf32> loc("layer"("net.py":3:0))
  %3 = "nn.relu"(%2) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %5 = "nn.conv2d"(%3, %4) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%5) : (tensor<1x2x4x4xf32>) -> ()

// to-depthwise-separable
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<6x1x3x3xf32>} : () -> tensor<6x1x3x3xf32> loc("layer.depthwise"("net.py":3:0))
  %1 = "nn.conv2d"(%x, %0) {stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 6, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x6x8x8xf32>, tensor<6x1x3x3xf32>) -> tensor<1x6x4x4xf32> loc("layer.depthwise"("net.py":3:0))
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<8x6x1x1xf32>} : () -> tensor<8x6x1x1xf32> loc("layer.pointwise"("net.py":3:0))
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<8xf32>} : () -> tensor<8xf32> loc("layer.pointwise"("net.py":3:0))
  %4 = "nn.conv2d"(%1, %2, %3) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x4x4xf32>, tensor<8x6x1x1xf32>, tensor<8xf32>) -> tensor<1x8x4x4xf32> loc("layer.pointwise"("net.py":3:0))
  %5 = "nn.relu"(%4) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %6 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %7 = "nn.conv2d"(%5, %6) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%7) : (tensor<1x2x4x4xf32>) -> ()

// low-rank{rank=0.25}
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4x6x3x1xf32>} : () -> tensor<4x6x3x1xf32> loc("layer.vertical"("net.py":3:0))
  %1 = "nn.conv2d"(%x, %0) {stride = array<i64: 2, 1>, padding = array<i64: 1, 1, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x6x8x8xf32>, tensor<4x6x3x1xf32>) -> tensor<1x4x4x8xf32> loc("layer.vertical"("net.py":3:0))
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<8x4x1x3xf32>} : () -> tensor<8x4x1x3xf32> loc("layer.horizontal"("net.py":3:0))
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<8xf32>} : () -> tensor<8xf32> loc("layer.horizontal"("net.py":3:0))
  %4 = "nn.conv2d"(%1, %2, %3) {stride = array<i64: 1, 2>, padding = array<i64: 0, 0, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x4x8xf32>, tensor<8x4x1x3xf32>, tensor<8xf32>) -> tensor<1x8x4x4xf32> loc("layer.horizontal"("net.py":3:0))
  %5 = "nn.relu"(%4) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %6 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %7 = "nn.conv2d"(%5, %6) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%7) : (tensor<1x2x4x4xf32>) -> ()

// low-rank{method=tucker rank=0.5}
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<3x6x1x1xf32>} : () -> tensor<3x6x1x1xf32> loc("layer.inner"("net.py":3:0))
  %1 = "nn.conv2d"(%x, %0) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x6x8x8xf32>, tensor<3x6x1x1xf32>) -> tensor<1x3x8x8xf32> loc("layer.inner"("net.py":3:0))
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4x3x3x3xf32>} : () -> tensor<4x3x3x3xf32> loc("layer.core"("net.py":3:0))
  %3 = "nn.conv2d"(%1, %2) {stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x4x4xf32> loc("layer.core"("net.py":3:0))
  %4 = "nn.constant"() {value = dense_resource<constant_2> : tensor<8x4x1x1xf32>} : () -> tensor<8x4x1x1xf32> loc("layer.outer"("net.py":3:0))
  %5 = "nn.constant"() {value = dense_resource<constant_3> : tensor<8xf32>} : () -> tensor<8xf32> loc("layer.outer"("net.py":3:0))
  %6 = "nn.conv2d"(%3, %4, %5) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x4x4xf32>, tensor<8x4x1x1xf32>, tensor<8xf32>) -> tensor<1x8x4x4xf32> loc("layer.outer"("net.py":3:0))
  %7 = "nn.relu"(%6) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %8 = "nn.constant"() {value = dense_resource<constant_4> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %9 = "nn.conv2d"(%7, %8) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%9) : (tensor<1x2x4x4xf32>) -> ()

// to-fire{squeeze_ratio=0.5}
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4x6x1x1xf32>} : () -> tensor<4x6x1x1xf32> loc("layer.squeeze"("net.py":3:0))
  %1 = "nn.conv2d"(%x, %0) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x6x8x8xf32>, tensor<4x6x1x1xf32>) -> tensor<1x4x8x8xf32> loc("layer.squeeze"("net.py":3:0))
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4x4x1x1xf32>} : () -> tensor<4x4x1x1xf32> loc("layer.expand_1x1"("net.py":3:0))
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<4xf32>} : () -> tensor<4xf32> loc("layer.expand_1x1"("net.py":3:0))
  %4 = "nn.conv2d"(%1, %2, %3) {stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x8x8xf32>, tensor<4x4x1x1xf32>, tensor<4xf32>) -> tensor<1x4x4x4xf32> loc("layer.expand_1x1"("net.py":3:0))
  %5 = "nn.constant"() {value = dense_resource<constant_3> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32> loc("layer.expand_kxk"("net.py":3:0))
  %6 = "nn.constant"() {value = dense_resource<constant_4> : tensor<4xf32>} : () -> tensor<4xf32> loc("layer.expand_kxk"("net.py":3:0))
  %7 = "nn.conv2d"(%1, %5, %6) {stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x8x8xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x4x4xf32> loc("layer.expand_kxk"("net.py":3:0))
  %8 = "nn.concat"(%4, %7) {axis = 1, operandSegmentSizes = array<i32: 2>} : (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> tensor<1x8x4x4xf32> loc("layer"("net.py":3:0))
  %9 = "nn.relu"(%8) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %10 = "nn.constant"() {value = dense_resource<constant_5> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %11 = "nn.conv2d"(%9, %10) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%11) : (tensor<1x2x4x4xf32>) -> ()

// to-fire{squeeze_ratio=0.5 activation=true}
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4x6x1x1xf32>} : () -> tensor<4x6x1x1xf32> loc("layer.squeeze"("net.py":3:0))
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4xf32>} : () -> tensor<4xf32> loc("layer.squeeze"("net.py":3:0))
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x8x8xf32>, tensor<4x6x1x1xf32>, tensor<4xf32>) -> tensor<1x4x10x10xf32> loc("layer.squeeze"("net.py":3:0))
  %3 = "nn.relu"(%2) : (tensor<1x4x10x10xf32>) -> tensor<1x4x10x10xf32> loc("layer.squeeze"("net.py":3:0))
  %4 = "nn.slice"(%3) {axis = 2, start = 1, stop = 9, step = 1} : (tensor<1x4x10x10xf32>) -> tensor<1x4x8x10xf32> loc("layer.expand_1x1"("net.py":3:0))
  %5 = "nn.slice"(%4) {axis = 3, start = 1, stop = 9, step = 1} : (tensor<1x4x8x10xf32>) -> tensor<1x4x8x8xf32> loc("layer.expand_1x1"("net.py":3:0))
  %6 = "nn.constant"() {value = dense_resource<constant_2> : tensor<4x4x1x1xf32>} : () -> tensor<4x4x1x1xf32> loc("layer.expand_1x1"("net.py":3:0))
  %7 = "nn.constant"() {value = dense_resource<constant_3> : tensor<4xf32>} : () -> tensor<4xf32> loc("layer.expand_1x1"("net.py":3:0))
  %8 = "nn.conv2d"(%5, %6, %7) {stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x8x8xf32>, tensor<4x4x1x1xf32>, tensor<4xf32>) -> tensor<1x4x4x4xf32> loc("layer.expand_1x1"("net.py":3:0))
  %9 = "nn.constant"() {value = dense_resource<constant_4> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32> loc("layer.expand_kxk"("net.py":3:0))
  %10 = "nn.constant"() {value = dense_resource<constant_5> : tensor<4xf32>} : () -> tensor<4xf32> loc("layer.expand_kxk"("net.py":3:0))
  %11 = "nn.conv2d"(%3, %9, %10) {stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x10x10xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x4x4xf32> loc("layer.expand_kxk"("net.py":3:0))
  %12 = "nn.concat"(%8, %11) {axis = 1, operandSegmentSizes = array<i32: 2>} : (tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) -> tensor<1x8x4x4xf32> loc("layer"("net.py":3:0))
  %13 = "nn.relu"(%12) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %14 = "nn.constant"() {value = dense_resource<constant_6> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %15 = "nn.conv2d"(%13, %14) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%15) : (tensor<1x2x4x4xf32>) -> ()

// to-inverted-residual{expansion=1.0}
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<6x6x1x1xf32>} : () -> tensor<6x6x1x1xf32> loc("layer.up"("net.py":3:0))
  %1 = "nn.conv2d"(%x, %0) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x6x8x8xf32>, tensor<6x6x1x1xf32>) -> tensor<1x6x8x8xf32> loc("layer.up"("net.py":3:0))
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<6x1x3x3xf32>} : () -> tensor<6x1x3x3xf32> loc("layer.depthwise"("net.py":3:0))
  %3 = "nn.conv2d"(%1, %2) {stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 6, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x6x8x8xf32>, tensor<6x1x3x3xf32>) -> tensor<1x6x4x4xf32> loc("layer.depthwise"("net.py":3:0))
  %4 = "nn.constant"() {value = dense_resource<constant_2> : tensor<8x6x1x1xf32>} : () -> tensor<8x6x1x1xf32> loc("layer.down"("net.py":3:0))
  %5 = "nn.constant"() {value = dense_resource<constant_3> : tensor<8xf32>} : () -> tensor<8xf32> loc("layer.down"("net.py":3:0))
  %6 = "nn.conv2d"(%3, %4, %5) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x4x4xf32>, tensor<8x6x1x1xf32>, tensor<8xf32>) -> tensor<1x8x4x4xf32> loc("layer.down"("net.py":3:0))
  %7 = "nn.relu"(%6) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %8 = "nn.constant"() {value = dense_resource<constant_4> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %9 = "nn.conv2d"(%7, %8) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%9) : (tensor<1x2x4x4xf32>) -> ()

// to-inverted-residual{expansion=1.0 activation=true}
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<6x6x1x1xf32>} : () -> tensor<6x6x1x1xf32> loc("layer.up"("net.py":3:0))
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<6xf32>} : () -> tensor<6xf32> loc("layer.up"("net.py":3:0))
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x8x8xf32>, tensor<6x6x1x1xf32>, tensor<6xf32>) -> tensor<1x6x10x10xf32> loc("layer.up"("net.py":3:0))
  %3 = "nn.relu"(%2) : (tensor<1x6x10x10xf32>) -> tensor<1x6x10x10xf32> loc("layer.up"("net.py":3:0))
  %4 = "nn.constant"() {value = dense_resource<constant_2> : tensor<6x1x3x3xf32>} : () -> tensor<6x1x3x3xf32> loc("layer.depthwise"("net.py":3:0))
  %5 = "nn.constant"() {value = dense_resource<constant_3> : tensor<6xf32>} : () -> tensor<6xf32> loc("layer.depthwise"("net.py":3:0))
  %6 = "nn.conv2d"(%3, %4, %5) {stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 6, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x10x10xf32>, tensor<6x1x3x3xf32>, tensor<6xf32>) -> tensor<1x6x4x4xf32> loc("layer.depthwise"("net.py":3:0))
  %7 = "nn.relu"(%6) : (tensor<1x6x4x4xf32>) -> tensor<1x6x4x4xf32> loc("layer.depthwise"("net.py":3:0))
  %8 = "nn.constant"() {value = dense_resource<constant_4> : tensor<8x6x1x1xf32>} : () -> tensor<8x6x1x1xf32> loc("layer.down"("net.py":3:0))
  %9 = "nn.constant"() {value = dense_resource<constant_5> : tensor<8xf32>} : () -> tensor<8xf32> loc("layer.down"("net.py":3:0))
  %10 = "nn.conv2d"(%7, %8, %9) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x6x4x4xf32>, tensor<8x6x1x1xf32>, tensor<8xf32>) -> tensor<1x8x4x4xf32> loc("layer.down"("net.py":3:0))
  %11 = "nn.relu"(%10) : (tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %12 = "nn.constant"() {value = dense_resource<constant_6> : tensor<2x8x1x1xf32>} : () -> tensor<2x8x1x1xf32>
  %13 = "nn.conv2d"(%11, %12) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x8x4x4xf32>, tensor<2x8x1x1xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%13) : (tensor<1x2x4x4xf32>) -> ()
