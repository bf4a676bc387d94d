"""Where tensors flow in a network: the sites, what their axes mean, and the groups they form."""
