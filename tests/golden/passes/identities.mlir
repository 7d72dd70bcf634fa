// constant_right: c + x -> x + c,   c * x -> x * c
  %0 = "nn.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%0, %x) : (tensor<f32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// constant_right: c + x -> x + c,   c * x -> x * c
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.mul"(%0, %x) : (tensor<5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// add_zero: x + 0 -> x   for integers, for -0.0, and for 0.0 where x is never -0.0
  %0 = "nn.constant"() {value = dense<0> : tensor<i32>} : () -> tensor<i32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xi32>, tensor<i32>) -> tensor<2x3x4x5xi32>
  "func.return"(%1) : (tensor<2x3x4x5xi32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xi32>) -> ()

// add_zero: x + 0 -> x   for integers, for -0.0, and for 0.0 where x is never -0.0
  %0 = "nn.constant"() {value = dense<-0.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.add"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// add_zero: x + 0 -> x   for integers, for -0.0, and for 0.0 where x is never -0.0
  %0 = "nn.exp"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %2 = "nn.add"(%0, %1) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%2) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.exp"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// sub_zero: x - 0 -> x
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.sub"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// times_one: x * 1 -> x,   x / 1 -> x,   x ** 1 -> x
  %0 = "nn.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// times_one: x * 1 -> x,   x / 1 -> x,   x ** 1 -> x
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<1x3x1x1xf32>} : () -> tensor<1x3x1x1xf32>
  %1 = "nn.div"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<1x3x1x1xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// times_one: x * 1 -> x,   x / 1 -> x,   x ** 1 -> x
  %0 = "nn.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.pow"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// divide_by_power_of_two: x / c -> x * (1/c)   where every c is a power of two, so that 1/c and the product round alike
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.div"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<5xf32>} : () -> tensor<5xf32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()

// divide_by_power_of_two: x / c -> x * (1/c)   where every c is a power of two, so that 1/c and the product round alike
  %0 = "nn.constant"() {value = dense<1.638e+04> : tensor<f16>} : () -> tensor<f16>
  %1 = "nn.div"(%x, %0) : (tensor<2x3x4x5xf16>, tensor<f16>) -> tensor<2x3x4x5xf16>
  "func.return"(%1) : (tensor<2x3x4x5xf16>) -> ()
// ->
  %0 = "nn.constant"() {value = dense<6.104e-05> : tensor<f16>} : () -> tensor<f16>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf16>, tensor<f16>) -> tensor<2x3x4x5xf16>
  "func.return"(%1) : (tensor<2x3x4x5xf16>) -> ()

// double_negation: -(-x) -> x
  %0 = "nn.neg"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.neg"(%0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// double_not: not not x -> x
  %0 = "nn.logical_not"(%x) : (tensor<2x3x4x5xi1>) -> tensor<2x3x4x5xi1>
  %1 = "nn.logical_not"(%0) : (tensor<2x3x4x5xi1>) -> tensor<2x3x4x5xi1>
  "func.return"(%1) : (tensor<2x3x4x5xi1>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xi1>) -> ()

// idempotent: f(f(x)) -> f(x)   for relu, abs, floor, ceil, round
  %0 = "nn.relu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.relu"(%0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %2 = "nn.relu"(%1) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%2) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.relu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// idempotent: f(f(x)) -> f(x)   for relu, abs, floor, ceil, round
  %0 = "nn.abs"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.abs"(%0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.abs"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// idempotent: f(f(x)) -> f(x)   for relu, abs, floor, ceil, round
  %0 = "nn.round"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.round"(%0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.round"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// same_operands: max(x, x) -> x,   min(x, x) -> x,   x and x -> x,   x or x -> x
  %0 = "nn.maximum"(%x, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// same_operands: max(x, x) -> x,   min(x, x) -> x,   x and x -> x,   x or x -> x
  %0 = "nn.logical_and"(%x, %x) : (tensor<2x3x4x5xi1>, tensor<2x3x4x5xi1>) -> tensor<2x3x4x5xi1>
  "func.return"(%0) : (tensor<2x3x4x5xi1>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xi1>) -> ()

// where_decided: where(c, x, x) -> x,   where(true, a, b) -> a,   where(false, a, b) -> b
  %0 = "nn.constant"() {value = dense<true> : tensor<i1>} : () -> tensor<i1>
  %1 = "nn.where"(%0, %x, %x1) : (tensor<i1>, tensor<2x20xf32>, tensor<2x20xf32>) -> tensor<2x20xf32>
  "func.return"(%1) : (tensor<2x20xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x20xf32>) -> ()

// where_decided: where(c, x, x) -> x,   where(true, a, b) -> a,   where(false, a, b) -> b
  %0 = "nn.constant"() {value = dense<false> : tensor<i1>} : () -> tensor<i1>
  %1 = "nn.where"(%0, %x, %x1) : (tensor<i1>, tensor<2x20xf32>, tensor<2x20xf32>) -> tensor<2x20xf32>
  "func.return"(%1) : (tensor<2x20xf32>) -> ()
// ->
  "func.return"(%x1) : (tensor<2x20xf32>) -> ()

// where_decided: where(c, x, x) -> x,   where(true, a, b) -> a,   where(false, a, b) -> b
  %0 = "nn.where"(%x, %x1, %x1) : (tensor<2x3x4x5xi1>, tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x1) : (tensor<2x3x4x5xf32>) -> ()

// silu: x * sigmoid(x) -> silu(x)
  %0 = "nn.sigmoid"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.mul"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.silu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// silu: x * sigmoid(x) -> silu(x)
  %0 = "nn.sigmoid"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.mul"(%0, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.silu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// bound_to_clip: max(x, c) -> clip(x, c, inf),   min(x, c) -> clip(x, -inf, c)   for one number c
  %0 = "nn.constant"() {value = dense<0.1> : tensor<f32>} : () -> tensor<f32>
  %1 = "nn.maximum"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 0.10000000149011612, max = 0x7FF0000000000000 : f64} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// bound_to_clip: max(x, c) -> clip(x, c, inf),   min(x, c) -> clip(x, -inf, c)   for one number c
  %0 = "nn.constant"() {value = dense<6.0> : tensor<1x1x1xf32>} : () -> tensor<1x1x1xf32>
  %1 = "nn.minimum"(%x, %0) : (tensor<2x3x4x5xf32>, tensor<1x1x1xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 0xFFF0000000000000 : f64, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_to_relu: clip(x, 0, inf) -> relu(x),   clip(x, -inf, inf) -> x
  %0 = "nn.clip"(%x) {min = 0.0, max = 0x7FF0000000000000 : f64} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.relu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_to_relu: clip(x, 0, inf) -> relu(x),   clip(x, -inf, inf) -> x
  %0 = "nn.clip"(%x) {min = 0xFFF0000000000000 : f64, max = 0x7FF0000000000000 : f64} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// relu_of_clip: relu(clip(x, a, b)) -> clip(x, max(a, 0), b)   where b >= 0
  %0 = "nn.clip"(%x) {min = -1.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.relu"(%0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// relu_of_clip: relu(clip(x, a, b)) -> clip(x, max(a, 0), b)   where b >= 0
  %0 = "nn.clip"(%x) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.relu"(%0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_of_relu: clip(relu(x), a, b) -> clip(x, max(a, 0), b)   where b >= 0
  %0 = "nn.relu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.clip"(%0) {min = -2.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 0.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_of_relu: clip(relu(x), a, b) -> clip(x, max(a, 0), b)   where b >= 0
  %0 = "nn.relu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.clip"(%0) {min = 1.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 1.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_of_clip: clip(clip(x, a, b), c, d) -> clip(x, min(max(a, c), d), min(max(b, c), d))
  %0 = "nn.clip"(%x) {min = -1.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.clip"(%0) {min = 0.5, max = 7.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 0.5, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_of_clip: clip(clip(x, a, b), c, d) -> clip(x, min(max(a, c), d), min(max(b, c), d))
  %0 = "nn.clip"(%x) {min = 0.0, max = 1.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.clip"(%0) {min = 2.0, max = 3.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 2.0, max = 2.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// clip_of_clip: clip(clip(x, a, b), c, d) -> clip(x, min(max(a, c), d), min(max(b, c), d))
  %0 = "nn.clip"(%x) {min = 5.0, max = 6.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  %1 = "nn.clip"(%0) {min = -1.0, max = 3.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.clip"(%x) {min = 3.0, max = 3.0} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()

// cast_to_same: cast(x, type of x) -> x
  %0 = "nn.cast"(%x) {elem = "f32"} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// cast_of_cast: cast(cast(x, a), b) -> cast(x, b)   where a holds every value of x
  %0 = "nn.cast"(%x) {elem = "f64"} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf64>
  %1 = "nn.cast"(%0) {elem = "f32"} : (tensor<2x3x4x5xf64>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  "func.return"(%x) : (tensor<2x3x4x5xf32>) -> ()

// cast_of_cast: cast(cast(x, a), b) -> cast(x, b)   where a holds every value of x
  %0 = "nn.cast"(%x) {elem = "f32"} : (tensor<2x3x4x5xf16>) -> tensor<2x3x4x5xf32>
  %1 = "nn.cast"(%0) {elem = "f64"} : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf64>
  "func.return"(%1) : (tensor<2x3x4x5xf64>) -> ()
// ->
  %0 = "nn.cast"(%x) {elem = "f64"} : (tensor<2x3x4x5xf16>) -> tensor<2x3x4x5xf64>
  "func.return"(%0) : (tensor<2x3x4x5xf64>) -> ()

// cast_of_cast: cast(cast(x, a), b) -> cast(x, b)   where a holds every value of x
  %0 = "nn.cast"(%x) {elem = "i64"} : (tensor<2x3x4x5xi32>) -> tensor<2x3x4x5xi64>
  %1 = "nn.cast"(%0) {elem = "f32"} : (tensor<2x3x4x5xi64>) -> tensor<2x3x4x5xf32>
  "func.return"(%1) : (tensor<2x3x4x5xf32>) -> ()
// ->
  %0 = "nn.cast"(%x) {elem = "f32"} : (tensor<2x3x4x5xi32>) -> tensor<2x3x4x5xf32>
  "func.return"(%0) : (tensor<2x3x4x5xf32>) -> ()
