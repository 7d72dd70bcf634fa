!q0 = !quant.uniform<i8<-127:127>:f32:0, {0.01318359375, 0.010009765625, 0.008056640625, 0.004150390625}>
!q1 = !quant.uniform<i32:f32:0, {0.0006591796875, 0.0005004882812500001, 0.00040283203125000003, 0.00020751953125000002}>
!q2 = !quant.uniform<i32:f32:1, {0.0006591796875, 0.0005004882812500001, 0.00040283203125000003, 0.00020751953125000002}>
!q3 = !quant.uniform<i8<-127:127>:f32:0, {0.013916015625, 0.01416015625, 0.009033203125, 0.0087890625}>
!q4 = !quant.uniform<i32:f32:1, {0.0015307617187500001, 0.0015576171875, 0.00099365234375, 0.000966796875}>
!q5 = !quant.uniform<i8<-127:127>:f32:1, {0.0078125, 0.0078125}>
!q6 = !quant.uniform<i32:f32:1, {0.000859375, 0.000859375}>
!q7 = !quant.uniform<i8<-127:127>:f32:0, {0.003173828125, 0.002197265625, 0.006103515625, 0.010986328125, 0.004638671875, 0.0126953125, 0.00048828125}>
!q8 = !quant.uniform<i32:f32:1, {0.00015869140625, 0.00010986328125, 0.00030517578125, 0.00054931640625, 0.00023193359375000002, 0.000634765625, 2.44140625e-05}>
"func.func"() <{sym_name = "integers", function_type = (tensor<1x3x6x6xf32>) -> tensor<1x7xf32>, arg_attrs = [{tersor.name = "image", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%image: tensor<1x3x6x6xf32>):
  %0 = "quant.quantize"(%image) {to = !quant.uniform<u8:f32, 0.05:17>, rounding = "f32"} : (tensor<1x3x6x6xf32>) -> tensor<1x3x6x6x!quant.uniform<u8:f32, 0.05:17>>
  %1 = "nn.constant"() {value = dense_resource<constant> : tensor<4x3x3x3xi8>} : () -> tensor<4x3x3x3x!q0>
  %2 = "nn.constant"() {value = dense_resource<constant_1> : tensor<4xi32>} : () -> tensor<4x!q1>
  %3 = "quant.conv2d"(%0, %1, %2) {stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<1x3x6x6x!quant.uniform<u8:f32, 0.05:17>>, tensor<4x3x3x3x!q0>, tensor<4x!q1>) -> tensor<1x4x3x3x!q2>
  %4 = "quant.requantize"(%3) {to = !quant.uniform<u8:f32, 0.05:17>, low = 17, rounding = "fixed", divisor = 1} : (tensor<1x4x3x3x!q2>) -> tensor<1x4x3x3x!quant.uniform<u8:f32, 0.05:17>>
  %5 = "quant.sum"(%4) {axes = array<i64: 2, 3>, keepdim = true, divisor = 9} : (tensor<1x4x3x3x!quant.uniform<u8:f32, 0.05:17>>) -> tensor<1x4x1x1x!quant.uniform<i32:f32, 0.005555555555555556>>
  %6 = "quant.requantize"(%5) {to = !quant.uniform<u8:f32, 0.02>, rounding = "f32", divisor = 1} : (tensor<1x4x1x1x!quant.uniform<i32:f32, 0.005555555555555556>>) -> tensor<1x4x1x1x!quant.uniform<u8:f32, 0.02>>
  %7 = "nn.constant"() {value = dense_resource<constant_2> : tensor<256xui8>} : () -> tensor<256x!quant.uniform<u8:f32, 0.02>>
  %8 = "quant.lookup"(%6, %7) : (tensor<1x4x1x1x!quant.uniform<u8:f32, 0.02>>, tensor<256x!quant.uniform<u8:f32, 0.02>>) -> tensor<1x4x1x1x!quant.uniform<u8:f32, 0.02>>
  %9 = "quant.mul"(%4, %8) {to = !quant.uniform<i8:f32, 0.11:-5>, rounding = "f32"} : (tensor<1x4x3x3x!quant.uniform<u8:f32, 0.05:17>>, tensor<1x4x1x1x!quant.uniform<u8:f32, 0.02>>) -> tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>
  %10 = "nn.constant"() {value = dense_resource<constant_3> : tensor<4x1x3x3xi8>} : () -> tensor<4x1x3x3x!q3>
  %11 = "quant.conv2d"(%9, %10) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 4, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>, tensor<4x1x3x3x!q3>) -> tensor<1x4x3x3x!q4>
  %12 = "nn.max_pool2d"(%9) {kernel = array<i64: 1, 1>, stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, ceil_mode = false} : (tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>) -> tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>
  %13 = "quant.add"(%11, %12) {to = !quant.uniform<i8:f32, 0.11:-5>, high = 100, rounding = "f32"} : (tensor<1x4x3x3x!q4>, tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>) -> tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>
  %14 = "nn.constant"() {value = dense_resource<constant_4> : tensor<4x2x2x2xi8>} : () -> tensor<4x2x2x2x!q5>
  %15 = "quant.conv_transpose2d"(%13, %14) {stride = array<i64: 2, 2>, padding = array<i64: 0, 0>, output_padding = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 1, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x3x3x!quant.uniform<i8:f32, 0.11:-5>>, tensor<4x2x2x2x!q5>) -> tensor<1x2x6x6x!q6>
  %16 = "quant.requantize"(%15) {to = !quant.uniform<u8:f32, 0.05:17>, rounding = "f32", divisor = 1} : (tensor<1x2x6x6x!q6>) -> tensor<1x2x6x6x!quant.uniform<u8:f32, 0.05:17>>
  %17 = "quant.avg_pool2d"(%16) {kernel = array<i64: 1, 1>, stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, to = !quant.uniform<u8:f32, 0.05:17>, high = 200, rounding = "onnx", divisor = 1, ceil_mode = false} : (tensor<1x2x6x6x!quant.uniform<u8:f32, 0.05:17>>) -> tensor<1x2x6x6x!quant.uniform<u8:f32, 0.05:17>>
  %18 = "quant.sum_pool2d"(%17) {kernel = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>, divisor = 4, ceil_mode = false} : (tensor<1x2x6x6x!quant.uniform<u8:f32, 0.05:17>>) -> tensor<1x2x3x3x!quant.uniform<i32:f32, 0.0125>>
  %19 = "quant.requantize"(%18) {to = !quant.uniform<u8:f32, 0.05:17>, rounding = "f32", divisor = 1} : (tensor<1x2x3x3x!quant.uniform<i32:f32, 0.0125>>) -> tensor<1x2x3x3x!quant.uniform<u8:f32, 0.05:17>>
  %20 = "nn.reshape"(%19) {shape = array<i64: -1, 18>} : (tensor<1x2x3x3x!quant.uniform<u8:f32, 0.05:17>>) -> tensor<1x18x!quant.uniform<u8:f32, 0.05:17>>
  %21 = "nn.constant"() {value = dense_resource<constant_5> : tensor<18x5xi8>} : () -> tensor<18x5x!quant.uniform<i8:f32, 0.11:-5>>
  %22 = "quant.matmul"(%20, %21) : (tensor<1x18x!quant.uniform<u8:f32, 0.05:17>>, tensor<18x5x!quant.uniform<i8:f32, 0.11:-5>>) -> tensor<1x5x!quant.uniform<i32:f32, 0.0055000000000000005>>
  %23 = "quant.requantize"(%22) {to = !quant.uniform<u8:f32, 0.05:17>, rounding = "f32", divisor = 1} : (tensor<1x5x!quant.uniform<i32:f32, 0.0055000000000000005>>) -> tensor<1x5x!quant.uniform<u8:f32, 0.05:17>>
  %24 = "quant.softmax"(%23) {axis = 1, to = !quant.uniform<u8:f32, 0.05:17>, rounding = "onnx"} : (tensor<1x5x!quant.uniform<u8:f32, 0.05:17>>) -> tensor<1x5x!quant.uniform<u8:f32, 0.05:17>>
  %25 = "nn.constant"() {value = dense_resource<constant_6> : tensor<7x5xi8>} : () -> tensor<7x5x!q7>
  %26 = "quant.linear"(%24, %25) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x5x!quant.uniform<u8:f32, 0.05:17>>, tensor<7x5x!q7>) -> tensor<1x7x!q8>
  %27 = "quant.dequantize"(%26) : (tensor<1x7x!q8>) -> tensor<1x7xf32>
  "func.return"(%27) : (tensor<1x7xf32>) -> ()
}) : () -> ()
