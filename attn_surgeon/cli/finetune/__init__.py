"""The command `finetune`: its options, and what it prints."""
