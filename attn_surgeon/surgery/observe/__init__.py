"""Record one forward pass: the module calls, the operations on tensors, and the dataflow between them."""
