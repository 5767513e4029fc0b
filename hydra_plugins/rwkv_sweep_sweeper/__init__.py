"""A sweeper for Hydra that runs jobs with the same model one after the other: `hydra/sweeper=by_model`.

`hydra_plugins` is Hydra's namespace for plugins and has no `__init__` of its own. Every program that uses Hydra in this
environment imports what is in it, so that nothing here imports more than Hydra itself.
"""
