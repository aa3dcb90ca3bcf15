"""The model: the post's stages g, h and f, the autoencoder's graph, and its file."""
