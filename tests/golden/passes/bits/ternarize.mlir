// ternarize
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4xf32>} : () -> tensor<4xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("first")
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<4xf32>} : () -> tensor<4xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_3> : tensor<4xf32>} : () -> tensor<4xf32>
  %5 = "nn.constant"() {value = dense_resource<constant_4> : tensor<4xf32>} : () -> tensor<4xf32>
  %6 = "nn.constant"() {value = dense_resource<constant_5> : tensor<4xf32>} : () -> tensor<4xf32>
  %7 = "nn.batch_norm"(%2, %3, %4, %5, %6) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %8 = "nn.relu"(%7) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %9 = "nn.constant"() {value = dense_resource<constant_6> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %10 = "nn.constant"() {value = dense_resource<constant_7> : tensor<4xf32>} : () -> tensor<4xf32>
  %11 = "nn.conv2d"(%8, %9, %10) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %12 = "nn.relu"(%11) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %13 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %14 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %15 = "nn.conv2d"(%12, %13, %14) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  "func.return"(%15) : (tensor<1x4x6x6xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4xf32>} : () -> tensor<4xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("first")
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<4xf32>} : () -> tensor<4xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_3> : tensor<4xf32>} : () -> tensor<4xf32>
  %5 = "nn.constant"() {value = dense_resource<constant_4> : tensor<4xf32>} : () -> tensor<4xf32>
  %6 = "nn.constant"() {value = dense_resource<constant_5> : tensor<4xf32>} : () -> tensor<4xf32>
  %7 = "nn.batch_norm"(%2, %3, %4, %5, %6) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %8 = "nn.relu"(%7) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %9 = "nn.constant"() {value = dense_resource<constant_6> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %10 = "nn.constant"() {value = dense_resource<constant_7> : tensor<4xf32>} : () -> tensor<4xf32>
  %11 = "bits.ternarize_weight"(%9) {threshold = 0.7} : (tensor<4x4x3x3xf32>) -> tensor<4x4x3x3xf32> loc("second")
  %12 = "nn.conv2d"(%8, %11, %10) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %13 = "nn.relu"(%12) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %14 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %15 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %16 = "nn.conv2d"(%13, %14, %15) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  "func.return"(%16) : (tensor<1x4x6x6xf32>) -> ()
