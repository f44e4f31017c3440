"""What is measured on images, and the networks that some metrics look through."""
