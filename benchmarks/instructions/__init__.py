"""Measure as a processor with fewer instruction sets would: AVX-512, VNNI and AMX are hidden.

Libraries choose their kernels by the CPUID instruction. On Linux an Intel processor lets a process
trap it (`cpuid_fault` in /proc/cpuinfo), so a preloaded library can answer in its place, and every
contender takes its AVX2 kernels. Clock rates, caches and memory stay those of this processor.
"""
