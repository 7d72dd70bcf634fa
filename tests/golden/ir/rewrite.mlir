"func.func"() <{sym_name = "main", function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, arg_attrs = [{tersor.name = "x", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%x: tensor<2x3xf32>):
  %0 = "nn.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = "nn.relu"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %2 = "nn.neg"(%1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %3 = "nn.neg"(%2) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %4 = "nn.relu"(%3) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %5 = "nn.neg"(%4) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"(%5) : (tensor<2x3xf32>) -> ()
}) : () -> ()

// ->
"func.func"() <{sym_name = "main", function_type = (tensor<2x3xf32>) -> tensor<2x3xf32>, arg_attrs = [{tersor.name = "x", tersor.batched}], res_attrs = [{tersor.name = "output"}]}> ({
^bb0(%x: tensor<2x3xf32>):
  %0 = "nn.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = "nn.neg"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"(%1) : (tensor<2x3xf32>) -> ()
}) : () -> ()

