"""What happens in a run, told to callbacks: traces, TensorBoard, Visdom."""
