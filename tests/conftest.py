"""Small models on two threads are fastest and repeatable on one."""

import torch

torch.set_num_threads(1)
