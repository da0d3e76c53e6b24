"""What is measured, a workload a file."""
