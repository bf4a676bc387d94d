"""Fine-tune an operated network: settings, the training loop, and the control without grafts."""
