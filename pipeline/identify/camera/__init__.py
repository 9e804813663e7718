"""A camera's optics and place, from pictures of a checkerboard. Needs OpenCV, the extra `camera`."""
