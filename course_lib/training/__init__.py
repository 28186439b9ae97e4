"""What makes the training loop fast and safe."""
