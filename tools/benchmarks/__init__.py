"""What `tools/bench.py` measures, without its command line. `training.measure_all` returns the records of training."""
