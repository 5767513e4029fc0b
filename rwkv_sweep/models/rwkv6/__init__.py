"""RWKV-6 ("Finch"): sizes, plain PyTorch blocks, the fast forwards on GPU and CPU, checkpoint layouts, fresh weights.

What other generations share with it does not belong here.
"""
