"""The workloads: one module for each thing that is measured."""
