"""A sweep over all architectures of timm and torchvision: every group of sites is operated on, checked and undone."""
