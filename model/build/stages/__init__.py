"""The stages of a build, one a module, in the order of `model.build.pipeline.STAGES`.

A stage reads files of earlier stages and writes files of its own, nothing else: so its result is the same whether the
earlier ones have just run or come from the cache.
"""
