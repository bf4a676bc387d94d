"""Insert blocks of the catalogue (blocks/) into a network by surgery/, and remove them."""
