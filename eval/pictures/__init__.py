"""Figures of images and scores."""
