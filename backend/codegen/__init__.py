"""Code generation: a builder of TensorIR statements, vector maths, threads and barriers. Knows no operator and no kernel."""
