"""What the machine has."""


def has_gpu() -> bool:
    """Whether PyTorch finds a GPU; imports it."""
    import torch

    return torch.cuda.is_available()
