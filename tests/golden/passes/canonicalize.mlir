  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<4xf32>} : () -> tensor<4xf32>
  %1 = "nn.reshape"(%0) {shape = array<i64: 1, 4, 1, 1>} : (tensor<4xf32>) -> tensor<1x4x1x1xf32>
  %2 = "nn.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %3 = "nn.reshape"(%2) {shape = array<i64: 1, 1, 1, 1>} : (tensor<f32>) -> tensor<1x1x1x1xf32>
  %4 = "nn.mul"(%1, %3) : (tensor<1x4x1x1xf32>, tensor<1x1x1x1xf32>) -> tensor<1x4x1x1xf32>
  %5 = "nn.sigmoid"(%x) : (tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %6 = "nn.mul"(%5, %x) : (tensor<1x4x2x2xf32>, tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %7 = "nn.slice"(%6) {axis = 1, start = 0, stop = 2, step = 1} : (tensor<1x4x2x2xf32>) -> tensor<1x2x2x2xf32>
  %8 = "nn.sigmoid"(%x) : (tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %9 = "nn.mul"(%8, %x) : (tensor<1x4x2x2xf32>, tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %10 = "nn.slice"(%9) {axis = 1, start = 2, stop = 4, step = 1} : (tensor<1x4x2x2xf32>) -> tensor<1x2x2x2xf32>
  %11 = "nn.concat"(%7, %10) {axis = 1, operandSegmentSizes = array<i32: 2>} : (tensor<1x2x2x2xf32>, tensor<1x2x2x2xf32>) -> tensor<1x4x2x2xf32>
  %12 = "nn.transpose"(%x) {perm = array<i64: 0, 2, 3, 1>} : (tensor<1x4x2x2xf32>) -> tensor<1x2x2x4xf32>
  %13 = "nn.clip"(%12) {min = -3.0, max = 3.0} : (tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  %14 = "nn.relu"(%13) : (tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  %15 = "nn.transpose"(%14) {perm = array<i64: 0, 3, 1, 2>} : (tensor<1x2x2x4xf32>) -> tensor<1x4x2x2xf32>
  %16 = "nn.add"(%11, %15) : (tensor<1x4x2x2xf32>, tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %17 = "nn.mul"(%4, %16) : (tensor<1x4x1x1xf32>, tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %18 = "nn.reshape"(%16) {shape = array<i64: -1, 8>} : (tensor<1x4x2x2xf32>) -> tensor<2x8xf32>
  %19 = "nn.reshape"(%18) {shape = array<i64: -1, 4, 2, 2>} : (tensor<2x8xf32>) -> tensor<1x4x2x2xf32>
  %20 = "nn.exp"(%x) : (tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  "func.return"(%17, %19) : (tensor<1x4x2x2xf32>, tensor<1x4x2x2xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<1x4x1x1xf32>} : () -> tensor<1x4x1x1xf32>
  %1 = "nn.silu"(%x) : (tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %2 = "nn.clip"(%x) {min = 0.0, max = 3.0} : (tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %3 = "nn.add"(%1, %2) : (tensor<1x4x2x2xf32>, tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>
  %4 = "nn.mul"(%3, %0) : (tensor<1x4x2x2xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x2x2xf32>
  "func.return"(%4, %3) : (tensor<1x4x2x2xf32>, tensor<1x4x2x2xf32>) -> ()
