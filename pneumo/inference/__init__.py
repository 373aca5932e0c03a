"""A trained run applied to images: predictions, maps of what it looks at, an exported model."""
