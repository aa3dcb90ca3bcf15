"""Text and counts: where they come from, and the matrices that an autoencoder trains on."""
