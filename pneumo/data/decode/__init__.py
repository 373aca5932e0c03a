"""Files of images and lesion masks into arrays."""
