"""Open image data, measure a network on it, and train what a surgery added."""
