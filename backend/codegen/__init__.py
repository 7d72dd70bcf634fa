"""Writing TensorIR: a builder of statements, vector maths, and what threads of one call share. Knows no operator and no kernel."""
