"""What a trained network can be written as."""

ENDINGS = {"onnx": ".onnx", "torch": ".pt", "timm": ".safetensors", "safetensors": ".safetensors"}
