"""What happens to the application and to the log when something fails: `make faults` and `make soak`."""
