"""What all Triton kernels use: launching on the device of their tensors, and fast functions of single numbers."""
