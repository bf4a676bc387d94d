"""Draw the dataflow of a network, with its sites and grafts, as SVG, PNG or HTML by Graphviz."""
