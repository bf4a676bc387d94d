"""Rewrites of an exported graph into operators that runtimes compute faster."""
