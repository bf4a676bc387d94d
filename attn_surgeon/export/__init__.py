"""Ship a network: to ONNX, torch.export and TensorRT, each checked against PyTorch."""
