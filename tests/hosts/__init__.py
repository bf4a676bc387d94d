"""What other tools do to an operated network: every host, at every placement, with grafts that change the output."""
