"""Whether scores before training predict what single grafts gain: python -m tests.scout cifar."""
