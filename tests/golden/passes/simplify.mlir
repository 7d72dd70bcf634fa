// add_any_zero: x + 0.0 -> x   (-0.0 stays -0.0)
  %0 = "nn.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// merge_constants: (x + c) + d -> x + (c + d),   (x * c) * d -> x * (c * d)   where the inner result is read once and no range is lost
  %0 = "nn.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %3 = "nn.add"(%1, %2) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%3) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// merge_constants: (x + c) + d -> x + (c + d),   (x * c) * d -> x * (c * d)   where the inner result is read once and no range is lost
  %0 = "nn.constant"() {value = dense<0.1> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %3 = "nn.mul"(%1, %2) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%3) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense<0.3> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// small_power: x ** 2 -> x * x,   x ** 0.5 -> sqrt(x),   x ** -0.5 -> 1 / sqrt(x)   for floats
  %0 = "nn.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.pow"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.mul"(%x, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// small_power: x ** 2 -> x * x,   x ** 0.5 -> sqrt(x),   x ** -0.5 -> 1 / sqrt(x)   for floats
  %0 = "nn.constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.pow"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.sqrt"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// small_power: x ** 2 -> x * x,   x ** 0.5 -> sqrt(x),   x ** -0.5 -> 1 / sqrt(x)   for floats
  %0 = "nn.constant"() {value = dense<-0.5> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.pow"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.rsqrt"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// divide_by_constant: x / c -> x * (1/c)
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.div"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// hard_sigmoid: clip(x + 3, 0, 6) / 6 -> hard_sigmoid(x)
  %0 = "nn.constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.clip"(%1) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %3 = "nn.constant"() {value = dense<6.0> : tensor<f32>} : () -> tensor<f32>
  %4 = "nn.div"(%2, %3) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%4) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.hard_sigmoid"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// hard_sigmoid: clip(x + 3, 0, 6) / 6 -> hard_sigmoid(x)
  %0 = "nn.constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.clip"(%1) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %3 = "nn.constant"() {value = dense<0.16666667> : tensor<f32>} : () -> tensor<f32>
  %4 = "nn.mul"(%2, %3) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%4) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.hard_sigmoid"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// hard_swish: x * hard_sigmoid(x) -> hard_swish(x),   (x * clip(x + 3, 0, 6)) / 6 -> hard_swish(x)
  %0 = "nn.hard_sigmoid"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.mul"(%0, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.hard_swish"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// hard_swish: x * hard_sigmoid(x) -> hard_swish(x),   (x * clip(x + 3, 0, 6)) / 6 -> hard_swish(x)
  %0 = "nn.constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.clip"(%1) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %3 = "nn.mul"(%x, %2) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %4 = "nn.constant"() {value = dense<6.0> : tensor<f32>} : () -> tensor<f32>
  %5 = "nn.div"(%3, %4) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%5) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.hard_swish"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
