"""What a network is trained and measured for; the only place that tells one task from another."""
