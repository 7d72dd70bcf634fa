  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<2x2x1x1xf32>} : () -> tensor<2x2x1x1xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<2xf32>} : () -> tensor<2xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2xf32>} : () -> tensor<2xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2xf32>} : () -> tensor<2xf32>
  %5 = "nn.constant"() {value = dense_resource<constant_4> : tensor<2xf32>} : () -> tensor<2xf32>
  %6 = "nn.constant"() {value = dense_resource<constant_5> : tensor<2xf32>} : () -> tensor<2xf32>
  %7 = "nn.batch_norm"(%2, %3, %4, %5, %6) {eps = 1.0e-05} : (tensor<1x2x4x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %8 = "nn.relu"(%7) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %9 = "nn.constant"() {value = dense_resource<constant_6> : tensor<2xf32>} : () -> tensor<2xf32>
  %10 = "nn.constant"() {value = dense_resource<constant_7> : tensor<2xf32>} : () -> tensor<2xf32>
  %11 = "nn.constant"() {value = dense_resource<constant_8> : tensor<2xf32>} : () -> tensor<2xf32>
  %12 = "nn.constant"() {value = dense_resource<constant_9> : tensor<2xf32>} : () -> tensor<2xf32>
  %13 = "nn.batch_norm"(%8, %9, %10, %11, %12) {eps = 1.0e-05} : (tensor<1x2x4x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %14 = "nn.constant"() {value = dense_resource<constant_10> : tensor<2x2x1x1xf32>} : () -> tensor<2x2x1x1xf32>
  %15 = "nn.constant"() {value = dense_resource<constant_11> : tensor<2xf32>} : () -> tensor<2xf32>
  %16 = "nn.conv2d"(%13, %14, %15) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %17 = "nn.relu"(%16) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %18 = "nn.constant"() {value = dense_resource<constant_12> : tensor<2xf32>} : () -> tensor<2xf32>
  %19 = "nn.constant"() {value = dense_resource<constant_13> : tensor<2xf32>} : () -> tensor<2xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_14> : tensor<2xf32>} : () -> tensor<2xf32>
  %21 = "nn.constant"() {value = dense_resource<constant_15> : tensor<2xf32>} : () -> tensor<2xf32>
  %22 = "nn.batch_norm"(%17, %18, %19, %20, %21) {eps = 1.0e-05} : (tensor<1x2x4x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %23 = "nn.constant"() {value = dense_resource<constant_16> : tensor<2x2x3x3xf32>} : () -> tensor<2x2x3x3xf32>
  %24 = "nn.constant"() {value = dense_resource<constant_17> : tensor<2xf32>} : () -> tensor<2xf32>
  %25 = "nn.conv2d"(%22, %23, %24) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x3x3xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %26 = "nn.add"(%17, %25) : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%26) : (tensor<1x2x4x4xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<2x2x1x1xf32>} : () -> tensor<2x2x1x1xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<2xf32>} : () -> tensor<2xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %3 = "nn.relu"(%2) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2x2x1x1xf32>} : () -> tensor<2x2x1x1xf32>
  %5 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2xf32>} : () -> tensor<2xf32>
  %6 = "nn.conv2d"(%3, %4, %5) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %7 = "nn.relu"(%6) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %8 = "nn.constant"() {value = dense_resource<constant_4> : tensor<1x2x1x1xf32>} : () -> tensor<1x2x1x1xf32>
  %9 = "nn.mul"(%7, %8) : (tensor<1x2x4x4xf32>, tensor<1x2x1x1xf32>) -> tensor<1x2x4x4xf32>
  %10 = "nn.constant"() {value = dense_resource<constant_5> : tensor<1x2x1x1xf32>} : () -> tensor<1x2x1x1xf32>
  %11 = "nn.add"(%9, %10) : (tensor<1x2x4x4xf32>, tensor<1x2x1x1xf32>) -> tensor<1x2x4x4xf32>
  %12 = "nn.constant"() {value = dense_resource<constant_6> : tensor<2x2x3x3xf32>} : () -> tensor<2x2x3x3xf32>
  %13 = "nn.constant"() {value = dense_resource<constant_7> : tensor<2xf32>} : () -> tensor<2xf32>
  %14 = "nn.conv2d"(%11, %12, %13) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x3x3xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %15 = "nn.add"(%7, %14) : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  "func.return"(%15) : (tensor<1x2x4x4xf32>) -> ()
