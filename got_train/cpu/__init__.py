"""What makes a CPU fast: settings, heap, compiled kernels. Knows arrays and libc, nothing of ours."""
