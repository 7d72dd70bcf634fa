// binarize{activations=true input_scale=false},to-bits
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
  %13 = "nn.reshape"(%9) {shape = array<i64: 4, 1, 1>} : (tensor<4xf32>) -> tensor<4x1x1xf32> loc("second")
  %14 = "nn.add"(%12, %13) : (tensor<1x4x6x6xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %15 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4xf32>} : () -> tensor<4xf32>
  %16 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %17 = "nn.constant"() {value = dense_resource<constant_10> : tensor<4xf32>} : () -> tensor<4xf32>
  %18 = "nn.constant"() {value = dense_resource<constant_11> : tensor<4xf32>} : () -> tensor<4xf32>
  %19 = "nn.batch_norm"(%14, %15, %16, %17, %18) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_12> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %21 = "nn.constant"() {value = dense_resource<constant_13> : tensor<4xf32>} : () -> tensor<4xf32>
  %22 = "bits.sign"(%19) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %23 = "bits.binarize_weight"(%20) : (tensor<4x4x3x3xf32>) -> tensor<4x4x3x3xf32> loc("third")
  %24 = "nn.conv2d"(%22, %23) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %25 = "nn.reshape"(%21) {shape = array<i64: 4, 1, 1>} : (tensor<4xf32>) -> tensor<4x1x1xf32> loc("third")
  %26 = "nn.add"(%24, %25) : (tensor<1x4x6x6xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %27 = "nn.constant"() {value = dense_resource<constant_14> : tensor<4xf32>} : () -> tensor<4xf32>
  %28 = "nn.constant"() {value = dense_resource<constant_15> : tensor<4xf32>} : () -> tensor<4xf32>
  %29 = "nn.constant"() {value = dense_resource<constant_16> : tensor<4xf32>} : () -> tensor<4xf32>
  %30 = "nn.constant"() {value = dense_resource<constant_17> : tensor<4xf32>} : () -> tensor<4xf32>
  %31 = "nn.batch_norm"(%26, %27, %28, %29, %30) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %32 = "nn.relu"(%31) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %33 = "nn.constant"() {value = dense_resource<constant_18> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %34 = "nn.constant"() {value = dense_resource<constant_19> : tensor<4xf32>} : () -> tensor<4xf32>
  %35 = "nn.conv2d"(%32, %33, %34) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  %36 = "nn.constant"() {value = dense_resource<constant_20> : tensor<4xf32>} : () -> tensor<4xf32>
  %37 = "nn.constant"() {value = dense_resource<constant_21> : tensor<4xf32>} : () -> tensor<4xf32>
  %38 = "nn.constant"() {value = dense_resource<constant_22> : tensor<4xf32>} : () -> tensor<4xf32>
  %39 = "nn.constant"() {value = dense_resource<constant_23> : tensor<4xf32>} : () -> tensor<4xf32>
  %40 = "nn.batch_norm"(%35, %36, %37, %38, %39) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %41 = "nn.relu"(%40) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  "func.return"(%41) : (tensor<1x4x6x6xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4xf32>} : () -> tensor<4xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("first")
  %3 = "nn.constant"() {value = dense_resource<constant_2> : tensor<4xf32>} : () -> tensor<4xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_3> : tensor<4xf32>} : () -> tensor<4xf32>
  %5 = "nn.constant"() {value = dense_resource<constant_4> : tensor<4xf32>} : () -> tensor<4xf32>
  %6 = "nn.constant"() {value = dense_resource<constant_5> : tensor<4xf32>} : () -> tensor<4xf32>
  %7 = "nn.batch_norm"(%2, %3, %4, %5, %6) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %8 = "nn.constant"() {value = dense_resource<constant_6> : tensor<4xf32>} : () -> tensor<4xf32>
  %9 = "bits.sign_bit"(%7) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6x!bits.affine<u1, 2.0, -1.0>> loc("second")
  %second.weight = "nn.constant"() {value = dense_resource<second.weight> : tensor<4x4x3x3xui8>} : () -> tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>> loc("second")
  %10 = "bits.conv2d"(%9, %second.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6x!bits.affine<u1, 2.0, -1.0>>, tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>>) -> tensor<1x4x6x6x!quant.uniform<i32:f32, 1.0>> loc("second")
  %11 = "quant.dequantize"(%10) : (tensor<1x4x6x6x!quant.uniform<i32:f32, 1.0>>) -> tensor<1x4x6x6xf32> loc("second")
  %second.scale = "nn.constant"() {value = dense_resource<second.scale> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("second")
  %12 = "nn.mul"(%11, %second.scale) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %13 = "nn.reshape"(%8) {shape = array<i64: 4, 1, 1>} : (tensor<4xf32>) -> tensor<4x1x1xf32> loc("second")
  %14 = "nn.add"(%12, %13) : (tensor<1x4x6x6xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("second")
  %15 = "nn.constant"() {value = dense_resource<constant_7> : tensor<4xf32>} : () -> tensor<4xf32>
  %16 = "nn.constant"() {value = dense_resource<constant_8> : tensor<4xf32>} : () -> tensor<4xf32>
  %17 = "nn.constant"() {value = dense_resource<constant_9> : tensor<4xf32>} : () -> tensor<4xf32>
  %18 = "nn.constant"() {value = dense_resource<constant_10> : tensor<4xf32>} : () -> tensor<4xf32>
  %19 = "nn.batch_norm"(%14, %15, %16, %17, %18) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_11> : tensor<4xf32>} : () -> tensor<4xf32>
  %21 = "bits.sign_bit"(%19) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6x!bits.affine<u1, 2.0, -1.0>> loc("third")
  %third.weight = "nn.constant"() {value = dense_resource<third.weight> : tensor<4x4x3x3xui8>} : () -> tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>> loc("third")
  %22 = "bits.conv2d"(%21, %third.weight) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x6x6x!bits.affine<u1, 2.0, -1.0>>, tensor<4x4x3x3x!bits.affine<u1, 2.0, -1.0>>) -> tensor<1x4x6x6x!quant.uniform<i32:f32, 1.0>> loc("third")
  %23 = "quant.dequantize"(%22) : (tensor<1x4x6x6x!quant.uniform<i32:f32, 1.0>>) -> tensor<1x4x6x6xf32> loc("third")
  %third.scale = "nn.constant"() {value = dense_resource<third.scale> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32> loc("third")
  %24 = "nn.mul"(%23, %third.scale) : (tensor<1x4x6x6xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %25 = "nn.reshape"(%20) {shape = array<i64: 4, 1, 1>} : (tensor<4xf32>) -> tensor<4x1x1xf32> loc("third")
  %26 = "nn.add"(%24, %25) : (tensor<1x4x6x6xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x6xf32> loc("third")
  %27 = "nn.constant"() {value = dense_resource<constant_12> : tensor<4xf32>} : () -> tensor<4xf32>
  %28 = "nn.constant"() {value = dense_resource<constant_13> : tensor<4xf32>} : () -> tensor<4xf32>
  %29 = "nn.constant"() {value = dense_resource<constant_14> : tensor<4xf32>} : () -> tensor<4xf32>
  %30 = "nn.constant"() {value = dense_resource<constant_15> : tensor<4xf32>} : () -> tensor<4xf32>
  %31 = "nn.batch_norm"(%26, %27, %28, %29, %30) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %32 = "nn.relu"(%31) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %33 = "nn.constant"() {value = dense_resource<constant_16> : tensor<4x4x3x3xf32>} : () -> tensor<4x4x3x3xf32>
  %34 = "nn.constant"() {value = dense_resource<constant_17> : tensor<4xf32>} : () -> tensor<4xf32>
  %35 = "nn.conv2d"(%32, %33, %34) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32> loc("last")
  %36 = "nn.constant"() {value = dense_resource<constant_18> : tensor<4xf32>} : () -> tensor<4xf32>
  %37 = "nn.constant"() {value = dense_resource<constant_19> : tensor<4xf32>} : () -> tensor<4xf32>
  %38 = "nn.constant"() {value = dense_resource<constant_20> : tensor<4xf32>} : () -> tensor<4xf32>
  %39 = "nn.constant"() {value = dense_resource<constant_21> : tensor<4xf32>} : () -> tensor<4xf32>
  %40 = "nn.batch_norm"(%35, %36, %37, %38, %39) {eps = 1.0e-05} : (tensor<1x4x6x6xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x6x6xf32>
  %41 = "nn.relu"(%40) : (tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  "func.return"(%41) : (tensor<1x4x6x6xf32>) -> ()
