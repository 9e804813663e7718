"""What the benchmarks of the robot side are made of: a pilot, a line with faults, and a judge."""
