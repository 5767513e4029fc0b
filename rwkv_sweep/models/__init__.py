"""Networks: what each kind of model is, how its weights are read, and its forward passes.

Vectors of sentences belong to embedding; the WKV recurrence and kernels to ops.
"""
