"""One module's own forward: traced, rewritten with grafts in it, and put back.

What carries a graft, and what each way would lose:

- A *forward hook* runs whatever forward is called, but not where a parent calls `child.forward(x)`, not in
  `symbolic_trace` of the network itself, and it shows among the user's hooks, which turn fused kernels off.
- A *generated subclass* alone runs in all of these, but an assigned `forward` hides it, and a class that is assigned
  replaces it.
- A subclass whose methods are *data descriptors* (`assigned.py`), with a descriptor for `__class__` (`operated.py`),
  keeps grafts in both cases. It is the one used.
- A module that is *rebuilt* loses any of them. So the network remembers its grafts (`expected.py`), puts those at
  leaves back at its next call, and raises for the others.
- A `torch.fx.GraphModule` makes its class from its graph, so there the *graph* is rewritten (`graph_module.py`).
"""
