"""What an operation costs and what it changed, as data that can be shown."""
