"""Rate-distortion measurements: codecs behind one interface, data sets, comparison, reports.

Dependencies point one way: ``cli.bench`` → ``runner``, ``report`` → ``codecs``, ``datasets``,
``compare`` → ``schema``, ``metrics``. Nothing outside this package depends on it.
"""
