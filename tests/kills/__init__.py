"""Commands that are killed at any moment of their life, and what comes after: python -m tests.kills."""
