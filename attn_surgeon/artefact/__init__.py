"""One file per operated network: where it comes from, saving, loading, recipes."""
