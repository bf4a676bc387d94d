"""Trace the forward of one module, rewrite it with grafts, and restore it.

Ways to make a module call a graft, and why the third is used:

- A *forward hook* does not run where a parent calls `child.forward(x)` or in `symbolic_trace` of the network itself.
  It also appears among the user's hooks, and hooks disable the fused kernels of `torch.nn`.
- A *generated subclass* runs in all of these cases. But a `forward` that is assigned to the object hides it, and a
  class that is assigned replaces it.
- A generated subclass whose methods are *data descriptors* (`assigned_forwards.py`), with a descriptor for `__class__`
  (`operated_class.py`), keeps its grafts in both cases.
- A layer whose norm other code *folds* into its convolution gets a fused forward with its grafts, or is not folded
  (`folding.py`).
- A module that other code *rebuilds* loses them in any case. So the network records the grafts that it should have
  (`expected_grafts.py`), reinstalls those at leaf modules at its next call, and raises for the others.
- A `torch.fx.GraphModule` generates its class from its graph, so there the *graph* is rewritten (`graph_module.py`).
"""

from attn_surgeon.surgery.rewrite.operated_class import set_scriptable
from attn_surgeon.surgery.rewrite.torchscript import prepare_scriptable

set_scriptable(prepare_scriptable)
