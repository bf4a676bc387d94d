"""Draw networks with their sites and grafts as pictures and pages."""
