"""The stand-in for reality: another engine, own effects and hidden values, in a process of its own."""
