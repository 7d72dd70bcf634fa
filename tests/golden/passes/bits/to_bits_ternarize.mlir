// ternarize,to-bits
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
  %13 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4xf32>} : () -> tensor<4xf32>
  %14 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %15 = "nn.constant"() {value = dense_resource<constant_10> : tensor<4xf32>} : () -> tensor<4xf32>
  %16 = "nn.constant"() {value = dense_resource<constant_11> : tensor<4xf32>} : () -> tensor<4xf32>
  %17 = "nn.batch_norm"(%12, %13, %14, %15, %16) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %18 = "nn.relu"(%17) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %19 = "nn.constant"() {value = dense_resource<constant_12> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_13> : tensor<4xf32>} : () -> tensor<4xf32>
  %21 = "bits.ternarize_weight"(%19) {threshold = 0.7} : (tensor<4x4x3x3xf32>) -> tensor<4x4x3x3xf32> loc("third")
  %22 = "nn.conv2d"(%18, %21, %20) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %23 = "nn.constant"() {value = dense_resource<constant_14> : tensor<4xf32>} : () -> tensor<4xf32>
  %24 = "nn.constant"() {value = dense_resource<constant_15> : tensor<4xf32>} : () -> tensor<4xf32>
  %25 = "nn.constant"() {value = dense_resource<constant_16> : tensor<4xf32>} : () -> tensor<4xf32>
  %26 = "nn.constant"() {value = dense_resource<constant_17> : tensor<4xf32>} : () -> tensor<4xf32>
  %27 = "nn.batch_norm"(%22, %23, %24, %25, %26) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %28 = "nn.relu"(%27) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %29 = "nn.constant"() {value = dense_resource<constant_18> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %30 = "nn.constant"() {value = dense_resource<constant_19> : tensor<4xf32>} : () -> tensor<4xf32>
  %31 = "nn.conv2d"(%28, %29, %30) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  %32 = "nn.constant"() {value = dense_resource<constant_20> : tensor<4xf32>} : () -> tensor<4xf32>
  %33 = "nn.constant"() {value = dense_resource<constant_21> : tensor<4xf32>} : () -> tensor<4xf32>
  %34 = "nn.constant"() {value = dense_resource<constant_22> : tensor<4xf32>} : () -> tensor<4xf32>
  %35 = "nn.constant"() {value = dense_resource<constant_23> : tensor<4xf32>} : () -> tensor<4xf32>
  %36 = "nn.batch_norm"(%31, %32, %33, %34, %35) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %37 = "nn.relu"(%36) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  "func.return"(%37) : (tensor<1x4x6x6xf32>) -> ()
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
  %second.weight = "nn.constant"() {value = dense_resource<second.weight> : tensor<4x4x3x3xui8>} : () -> tensor<4x4x3x3x!bits.affine<u2, 1.0, -1.0>> loc("second")
  %9 = "bits.weight_conv2d"(%8, %second.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3x!bits.affine<u2, 1.0, -1.0>>) -> tensor<1x4x6x6xf32> loc("second")
  %second.scale = "nn.constant"() {value = dense_resource<second.scale> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("second")
  %10 = "nn.mul"(%9, %second.scale) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %second.bias = "nn.constant"() {value = dense_resource<second.bias> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("second")
  %11 = "nn.add"(%10, %second.bias) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %12 = "nn.constant"() {value = dense_resource<constant_6> : tensor<4xf32>} : () -> tensor<4xf32>
  %13 = "nn.constant"() {value = dense_resource<constant_7> : tensor<4xf32>} : () -> tensor<4xf32>
  %14 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4xf32>} : () -> tensor<4xf32>
  %15 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %16 = "nn.batch_norm"(%11, %12, %13, %14, %15) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %17 = "nn.relu"(%16) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %third.weight = "nn.constant"() {value = dense_resource<third.weight> : tensor<4x4x3x3xui8>} : () -> tensor<4x4x3x3x!bits.affine<u2, 1.0, -1.0>> loc("third")
  %18 = "bits.weight_conv2d"(%17, %third.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3x!bits.affine<u2, 1.0, -1.0>>) -> tensor<1x4x6x6xf32> loc("third")
  %third.scale = "nn.constant"() {value = dense_resource<third.scale> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("third")
  %19 = "nn.mul"(%18, %third.scale) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %third.bias = "nn.constant"() {value = dense_resource<third.bias> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("third")
  %20 = "nn.add"(%19, %third.bias) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %21 = "nn.constant"() {value = dense_resource<constant_10> : tensor<4xf32>} : () -> tensor<4xf32>
  %22 = "nn.constant"() {value = dense_resource<constant_11> : tensor<4xf32>} : () -> tensor<4xf32>
  %23 = "nn.constant"() {value = dense_resource<constant_12> : tensor<4xf32>} : () -> tensor<4xf32>
  %24 = "nn.constant"() {value = dense_resource<constant_13> : tensor<4xf32>} : () -> tensor<4xf32>
  %25 = "nn.batch_norm"(%20, %21, %22, %23, %24) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %26 = "nn.relu"(%25) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %27 = "nn.constant"() {value = dense_resource<constant_14> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %28 = "nn.constant"() {value = dense_resource<constant_15> : tensor<4xf32>} : () -> tensor<4xf32>
  %29 = "nn.conv2d"(%26, %27, %28) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  %30 = "nn.constant"() {value = dense_resource<constant_16> : tensor<4xf32>} : () -> tensor<4xf32>
  %31 = "nn.constant"() {value = dense_resource<constant_17> : tensor<4xf32>} : () -> tensor<4xf32>
  %32 = "nn.constant"() {value = dense_resource<constant_18> : tensor<4xf32>} : () -> tensor<4xf32>
  %33 = "nn.constant"() {value = dense_resource<constant_19> : tensor<4xf32>} : () -> tensor<4xf32>
  %34 = "nn.batch_norm"(%29, %30, %31, %32, %33) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %35 = "nn.relu"(%34) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  "func.return"(%35) : (tensor<1x4x6x6xf32>) -> ()
