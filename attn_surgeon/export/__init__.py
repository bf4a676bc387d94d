"""Export networks to ONNX, torch.export programs and TensorRT engines; every file is compared with PyTorch."""
