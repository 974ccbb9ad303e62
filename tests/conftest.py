"""What all tests share."""

from __future__ import annotations

import matplotlib
import torch

matplotlib.use("Agg")
# Tensors are tiny here: threads cost far more than they save, and workers run beside each other.
torch.set_num_threads(1)
