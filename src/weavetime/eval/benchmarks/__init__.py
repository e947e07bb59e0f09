"""One benchmark a file, each as its authors publish and score it."""
