"""Tables, images and splits of a data set."""
