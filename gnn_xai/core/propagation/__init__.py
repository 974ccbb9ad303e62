"""What a model propagates: its calls of propagate, their coefficients, and fused ways to run them."""
