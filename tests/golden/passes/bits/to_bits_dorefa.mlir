// dorefa{w=1 a=2},to-bits
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
  %11 = "bits.quantize_activation"(%8) {bits = 2} : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %12 = "bits.dorefa_weight"(%9) {bits = 1} : (tensor<4x4x3x3xf32>) -> tensor<4x4x3x3xf32> loc("second")
  %13 = "nn.conv2d"(%11, %12, %10) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %14 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4xf32>} : () -> tensor<4xf32>
  %15 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %16 = "nn.constant"() {value = dense_resource<constant_10> : tensor<4xf32>} : () -> tensor<4xf32>
  %17 = "nn.constant"() {value = dense_resource<constant_11> : tensor<4xf32>} : () -> tensor<4xf32>
  %18 = "nn.batch_norm"(%13, %14, %15, %16, %17) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %19 = "nn.relu"(%18) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_12> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %21 = "nn.constant"() {value = dense_resource<constant_13> : tensor<4xf32>} : () -> tensor<4xf32>
  %22 = "bits.quantize_activation"(%19) {bits = 2} : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %23 = "bits.dorefa_weight"(%20) {bits = 1} : (tensor<4x4x3x3xf32>) -> tensor<4x4x3x3xf32> loc("third")
  %24 = "nn.conv2d"(%22, %23, %21) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %25 = "nn.constant"() {value = dense_resource<constant_14> : tensor<4xf32>} : () -> tensor<4xf32>
  %26 = "nn.constant"() {value = dense_resource<constant_15> : tensor<4xf32>} : () -> tensor<4xf32>
  %27 = "nn.constant"() {value = dense_resource<constant_16> : tensor<4xf32>} : () -> tensor<4xf32>
  %28 = "nn.constant"() {value = dense_resource<constant_17> : tensor<4xf32>} : () -> tensor<4xf32>
  %29 = "nn.batch_norm"(%24, %25, %26, %27, %28) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %30 = "nn.relu"(%29) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %31 = "nn.constant"() {value = dense_resource<constant_18> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %32 = "nn.constant"() {value = dense_resource<constant_19> : tensor<4xf32>} : () -> tensor<4xf32>
  %33 = "nn.conv2d"(%30, %31, %32) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  %34 = "nn.constant"() {value = dense_resource<constant_20> : tensor<4xf32>} : () -> tensor<4xf32>
  %35 = "nn.constant"() {value = dense_resource<constant_21> : tensor<4xf32>} : () -> tensor<4xf32>
  %36 = "nn.constant"() {value = dense_resource<constant_22> : tensor<4xf32>} : () -> tensor<4xf32>
  %37 = "nn.constant"() {value = dense_resource<constant_23> : tensor<4xf32>} : () -> tensor<4xf32>
  %38 = "nn.batch_norm"(%33, %34, %35, %36, %37) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %39 = "nn.relu"(%38) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  "func.return"(%39) : (tensor<1x4x6x6xf32>) -> ()
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
  %9 = "bits.to_levels"(%8) {bits = 2} : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6x!bits.affine<u2, 0.3333333333333333, 0.0>> loc("second")
  %second.weight = "nn.constant"() {value = dense_resource<second.weight> : tensor<4x4x3x3xui8>} : () -> tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>> loc("second")
  %10 = "bits.conv2d"(%9, %second.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6x!bits.affine<u2, 0.3333333333333333, 0.0>>, tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>>) -> tensor<1x4x6x6x!quant.uniform<i32:f32, 0.3333333333333333>> loc("second")
  %11 = "nn.constant"() {value = dense_resource<constant_6> : tensor<4x3xi32>} : () -> tensor<4x3xi32> loc("third")
  %12 = "bits.threshold"(%10, %11) {to = !bits.affine<u2, 0.3333333333333333, 0.0>} : (tensor<1x4x6x6x!quant.uniform<i32:f32, 0.3333333333333333>>, tensor<4x3xi32>) -> tensor<1x4x6x6x!bits.affine<u2, 0.3333333333333333, 0.0>> loc("third")
  %third.weight = "nn.constant"() {value = dense_resource<third.weight> : tensor<4x4x3x3xui8>} : () -> tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>> loc("third")
  %13 = "bits.conv2d"(%12, %third.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6x!bits.affine<u2, 0.3333333333333333, 0.0>>, tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>>) -> tensor<1x4x6x6x!quant.uniform<i32:f32, 0.3333333333333333>> loc("third")
  %14 = "quant.dequantize"(%13) : (tensor<1x4x6x6x!quant.uniform<i32:f32, 0.3333333333333333>>) -> tensor<1x4x6x6xf32> loc("third")
  %third.scale = "nn.constant"() {value = dense<0.79179215> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32> loc("third")
  %15 = "nn.mul"(%14, %third.scale) : (tensor<1x4x6x6xf32>, tensor<1x1x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %third.bias = "nn.constant"() {value = dense_resource<third.bias> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("third")
  %16 = "nn.add"(%15, %third.bias) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %17 = "nn.constant"() {value = dense_resource<constant_7> : tensor<4xf32>} : () -> tensor<4xf32>
  %18 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4xf32>} : () -> tensor<4xf32>
  %19 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_10> : tensor<4xf32>} : () -> tensor<4xf32>
  %21 = "nn.batch_norm"(%16, %17, %18, %19, %20) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %22 = "nn.relu"(%21) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %23 = "nn.constant"() {value = dense_resource<constant_11> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %24 = "nn.constant"() {value = dense_resource<constant_12> : tensor<4xf32>} : () -> tensor<4xf32>
  %25 = "nn.conv2d"(%22, %23, %24) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  %26 = "nn.constant"() {value = dense_resource<constant_13> : tensor<4xf32>} : () -> tensor<4xf32>
  %27 = "nn.constant"() {value = dense_resource<constant_14> : tensor<4xf32>} : () -> tensor<4xf32>
  %28 = "nn.constant"() {value = dense_resource<constant_15> : tensor<4xf32>} : () -> tensor<4xf32>
  %29 = "nn.constant"() {value = dense_resource<constant_16> : tensor<4xf32>} : () -> tensor<4xf32>
  %30 = "nn.batch_norm"(%25, %26, %27, %28, %29) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %31 = "nn.relu"(%30) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  "func.return"(%31) : (tensor<1x4x6x6xf32>) -> ()
