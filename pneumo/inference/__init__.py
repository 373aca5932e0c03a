"""A trained run applied to images: predictions, saliency maps, an exported and a served model."""
