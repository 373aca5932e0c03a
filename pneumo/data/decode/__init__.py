"""Reads files of images, lesion masks and run-length codes into arrays."""
