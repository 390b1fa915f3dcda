"""The tests of neve, and the environment that they and torch run under."""

import os

# before torch and transformers are imported: no network; one thread, as there are as many processes as processors
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# oneDNN's float32 gelu of infinity is NaN with AVX-512 alone: one reference on every machine
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
