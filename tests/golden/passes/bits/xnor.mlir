// binarize{activations=true}
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
  %8 = "nn.constant"() {value = dense_resource<constant_6> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %9 = "nn.constant"() {value = dense_resource<constant_7> : tensor<4xf32>} : () -> tensor<4xf32>
  %10 = "bits.sign"(%7) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %11 = "bits.binarize_weight"(%8) : (tensor<4x4x3x3xf32>) -> tensor<4x4x3x3xf32> loc("second")
  %12 = "nn.conv2d"(%10, %11) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %13 = "nn.abs"(%7) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %14 = "nn.mean"(%13) {axes = array<i64: 1>, keepdim = true} : (tensor<1x4x6x6xf32>) -> tensor<1x1x6x6xf32> loc("second")
  %15 = "nn.avg_pool2d"(%14) {kernel = array<i64: 3, 3>, stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, ceil_mode = false, count_include_pad = true} : (tensor<1x1x6x6xf32>) -> tensor<1x1x6x6xf32> loc("second")
  %16 = "nn.mul"(%12, %15) : (tensor<1x4x6x6xf32>, tensor<1x1x6x6xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %17 = "nn.reshape"(%9) {shape = array<i64: 4, 1, 1>} : (tensor<4xf32>) -> tensor<4x1x1xf32> loc("second")
  %18 = "nn.add"(%16, %17) : (tensor<1x4x6x6xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %19 = "nn.relu"(%18) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %21 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %22 = "nn.conv2d"(%19, %20, %21) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  "func.return"(%22) : (tensor<1x4x6x6xf32>) -> ()
