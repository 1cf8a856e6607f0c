"""Everything that `tools/bench.py` measures, without the command line. With the root and tools/ on the path:

>>> from benchmarks import report, training
>>> config, device = preset("paintings"), torch.device("cuda")
>>> records = training.measure_all(config, device, [32, 64], tell=lambda record: print(report.row(record)))
>>> print(*report.closing(config, records), sep="\\n")
>>> json.dumps(report.as_json(config, device, records))
"""
