// before
"func.func"() <{sym_name = "main", function_type = (tensor<1x2x4x4xf32>) -> tensor<1x2xf32>, arg_attrs = [{tersor.name = "x", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%x: tensor<1x2x4x4xf32>):
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<3x2x1x1xf32>} : () -> tensor<3x2x1x1xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<3xf32>} : () -> tensor<3xf32>
  %2 = "nn.conv2d"(%x, %0, %1) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<3x2x1x1xf32>, tensor<3xf32>) -> tensor<1x3x4x4xf32>
  %3 = "nn.clip"(%2) {min = 0.0, max = 6.0} : (tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32>
  %4 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2x3x3x3xf32>} : () -> tensor<2x3x3x3xf32>
  %5 = "nn.conv2d"(%3, %4) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x3x4x4xf32>, tensor<2x3x3x3xf32>) -> tensor<1x2x4x4xf32>
  %6 = "nn.add"(%x, %5) : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %7 = "nn.relu"(%6) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %8 = "nn.mean"(%7) {axes = array<i64: 2, 3>, keepdim = false} : (tensor<1x2x4x4xf32>) -> tensor<1x2xf32>
  %9 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %10 = "nn.constant"() {value = dense_resource<constant_4> : tensor<2xf32>} : () -> tensor<2xf32>
  %11 = "nn.linear"(%8, %9, %10) {operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  "func.return"(%11) : (tensor<1x2xf32>) -> ()
}) : () -> ()

// quantize
!q0 = !quant.uniform<i8<-127:127>:f32:0, {0.0007874016300775111, 0.004724409896880388, 0.003937008325010538}>
!q1 = !quant.uniform<i8<-127:127>:f32:0, {0.018110236153006554, 0.015748033300042152}>
!q2 = !quant.uniform<i8<-127:127>:f32:0, {0.003937008325010538, 0.012598426081240177}>
"func.func"() <{sym_name = "main", function_type = (tensor<1x2x4x4xf32>) -> tensor<1x2xf32>, arg_attrs = [{tersor.name = "x", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%x: tensor<1x2x4x4xf32>):
  %0 = "nn.constant"() {value = dense_resource<constant> : tensor<3x2x1x1xf32>} : () -> tensor<3x2x1x1xf32>
  %1 = "nn.constant"() {value = dense_resource<constant_1> : tensor<3xf32>} : () -> tensor<3xf32>
  %2 = "quant.quantize"(%x) {to = !quant.uniform<u8:f32, 0.0313725508749485:96>, rounding = "f32"} : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4x!quant.uniform<u8:f32, 0.0313725508749485:96>>
  %3 = "quant.dequantize"(%2) : (tensor<1x2x4x4x!quant.uniform<u8:f32, 0.0313725508749485:96>>) -> tensor<1x2x4x4xf32>
  %4 = "quant.quantize"(%0) {to = !quant.uniform<i8<-127:127>:f32:0, {0.0007874016300775111, 0.004724409896880388, 0.003937008325010538}>, rounding = "f32"} : (tensor<3x2x1x1xf32>) -> tensor<3x2x1x1x!q0>
  %5 = "quant.dequantize"(%4) : (tensor<3x2x1x1x!q0>) -> tensor<3x2x1x1xf32>
  %6 = "nn.conv2d"(%3, %5, %1) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4xf32>, tensor<3x2x1x1xf32>, tensor<3xf32>) -> tensor<1x3x4x4xf32>
  %7 = "nn.clip"(%6) {min = 0.0, max = 6.0} : (tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32>
  %8 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2x3x3x3xf32>} : () -> tensor<2x3x3x3xf32>
  %9 = "quant.quantize"(%7) {to = !quant.uniform<u8:f32, 0.007539532147347927>, rounding = "f32"} : (tensor<1x3x4x4xf32>) -> tensor<1x3x4x4x!quant.uniform<u8:f32, 0.007539532147347927>>
  %10 = "quant.dequantize"(%9) : (tensor<1x3x4x4x!quant.uniform<u8:f32, 0.007539532147347927>>) -> tensor<1x3x4x4xf32>
  %11 = "quant.quantize"(%8) {to = !quant.uniform<i8<-127:127>:f32:0, {0.018110236153006554, 0.015748033300042152}>, rounding = "f32"} : (tensor<2x3x3x3xf32>) -> tensor<2x3x3x3x!q1>
  %12 = "quant.dequantize"(%11) : (tensor<2x3x3x3x!q1>) -> tensor<2x3x3x3xf32>
  %13 = "nn.conv2d"(%10, %12) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x3x4x4xf32>, tensor<2x3x3x3xf32>) -> tensor<1x2x4x4xf32>
  %14 = "nn.add"(%3, %13) : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %15 = "nn.relu"(%14) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %16 = "quant.quantize"(%15) {to = !quant.uniform<u8:f32, 0.05567995086312294>, rounding = "f32"} : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4x!quant.uniform<u8:f32, 0.05567995086312294>>
  %17 = "quant.dequantize"(%16) : (tensor<1x2x4x4x!quant.uniform<u8:f32, 0.05567995086312294>>) -> tensor<1x2x4x4xf32>
  %18 = "nn.mean"(%17) {axes = array<i64: 2, 3>, keepdim = false} : (tensor<1x2x4x4xf32>) -> tensor<1x2xf32>
  %19 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %20 = "nn.constant"() {value = dense_resource<constant_4> : tensor<2xf32>} : () -> tensor<2xf32>
  %21 = "quant.quantize"(%18) {to = !quant.uniform<u8:f32, 0.024457227438688278>, rounding = "f32"} : (tensor<1x2xf32>) -> tensor<1x2x!quant.uniform<u8:f32, 0.024457227438688278>>
  %22 = "quant.dequantize"(%21) : (tensor<1x2x!quant.uniform<u8:f32, 0.024457227438688278>>) -> tensor<1x2xf32>
  %23 = "quant.quantize"(%19) {to = !quant.uniform<i8<-127:127>:f32:0, {0.003937008325010538, 0.012598426081240177}>, rounding = "f32"} : (tensor<2x2xf32>) -> tensor<2x2x!q2>
  %24 = "quant.dequantize"(%23) : (tensor<2x2x!q2>) -> tensor<2x2xf32>
  %25 = "nn.linear"(%22, %24, %20) {operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  "func.return"(%25) : (tensor<1x2xf32>) -> ()
}) : () -> ()

// to-integer
!q0 = !quant.uniform<i8<-127:127>:f32:0, {0.0007874016300775111, 0.004724409896880388, 0.003937008325010538}>
!q1 = !quant.uniform<i32:f32:0, {2.4702797698624096e-05, 0.00014821678984399018, 0.0001235139939714889}>
!q2 = !quant.uniform<i32:f32:1, {2.4702797698624096e-05, 0.00014821678984399018, 0.0001235139939714889}>
!q3 = !quant.uniform<i8<-127:127>:f32:0, {0.018110236153006554, 0.015748033300042152}>
!q4 = !quant.uniform<i32:f32:1, {0.00013654270767165556, 0.00011873280332317347}>
!q5 = !quant.uniform<i8<-127:127>:f32:0, {0.003937008325010538, 0.012598426081240177}>
!q6 = !quant.uniform<i32:f32:0, {9.628830803279191e-05, 0.0003081225720383933}>
!q7 = !quant.uniform<i32:f32:1, {9.628830803279191e-05, 0.0003081225720383933}>
"func.func"() <{sym_name = "main", function_type = (tensor<1x2x4x4xf32>) -> tensor<1x2xf32>, arg_attrs = [{tersor.name = "x", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%x: tensor<1x2x4x4xf32>):
  %0 = "quant.quantize"(%x) {to = !quant.uniform<u8:f32, 0.0313725508749485:96>, rounding = "f32"} : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4x!quant.uniform<u8:f32, 0.0313725508749485:96>>
  %1 = "nn.constant"() {value = dense_resource<constant> : tensor<3x2x1x1xi8>} : () -> tensor<3x2x1x1x!q0>
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<3xi32>} : () -> tensor<3x!q1>
  %3 = "quant.conv2d"(%0, %1, %2) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x4x4x!quant.uniform<u8:f32, 0.0313725508749485:96>>, tensor<3x2x1x1x!q0>, tensor<3x!q1>) -> tensor<1x3x4x4x!q2>
  %4 = "quant.requantize"(%3) {to = !quant.uniform<u8:f32, 0.007539532147347927>, rounding = "f32", divisor = 1} : (tensor<1x3x4x4x!q2>) -> tensor<1x3x4x4x!quant.uniform<u8:f32, 0.007539532147347927>>
  %5 = "nn.constant"() {value = dense_resource<constant_2> : tensor<2x3x3x3xi8>} : () -> tensor<2x3x3x3x!q3>
  %6 = "quant.conv2d"(%4, %5) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x3x4x4x!quant.uniform<u8:f32, 0.007539532147347927>>, tensor<2x3x3x3x!q3>) -> tensor<1x2x4x4x!q4>
  %7 = "quant.add"(%0, %6) {to = !quant.uniform<u8:f32, 0.05567995086312294>, rounding = "f32"} : (tensor<1x2x4x4x!quant.uniform<u8:f32, 0.0313725508749485:96>>, tensor<1x2x4x4x!q4>) -> tensor<1x2x4x4x!quant.uniform<u8:f32, 0.05567995086312294>>
  %8 = "quant.sum"(%7) {axes = array<i64: 2, 3>, keepdim = false, divisor = 16} : (tensor<1x2x4x4x!quant.uniform<u8:f32, 0.05567995086312294>>) -> tensor<1x2x!quant.uniform<i32:f32, 0.0034799969289451838>>
  %9 = "quant.requantize"(%8) {to = !quant.uniform<u8:f32, 0.024457227438688278>, rounding = "f32", divisor = 1} : (tensor<1x2x!quant.uniform<i32:f32, 0.0034799969289451838>>) -> tensor<1x2x!quant.uniform<u8:f32, 0.024457227438688278>>
  %10 = "nn.constant"() {value = dense_resource<constant_3> : tensor<2x2xi8>} : () -> tensor<2x2x!q5>
  %11 = "nn.constant"() {value = dense_resource<constant_4> : tensor<2xi32>} : () -> tensor<2x!q6>
  %12 = "quant.linear"(%9, %10, %11) {operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x2x!quant.uniform<u8:f32, 0.024457227438688278>>, tensor<2x2x!q5>, tensor<2x!q6>) -> tensor<1x2x!q7>
  %13 = "quant.dequantize"(%12) : (tensor<1x2x!q7>) -> tensor<1x2xf32>
  "func.return"(%13) : (tensor<1x2xf32>) -> ()
}) : () -> ()
