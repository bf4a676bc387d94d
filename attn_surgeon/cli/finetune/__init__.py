"""The verb finetune: its options, and what it prints."""
