"""Put attention into pretrained vision networks: exactly the identity at first, with a certificate that says so."""
