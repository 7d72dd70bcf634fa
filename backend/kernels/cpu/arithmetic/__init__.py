"""How a register tile multiplies and accumulates, one module for each kind of number."""
