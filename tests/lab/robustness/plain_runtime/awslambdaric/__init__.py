"""In the place of AWS's package of this name: the image's directory comes first on the path."""
