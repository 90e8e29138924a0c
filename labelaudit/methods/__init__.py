"""UMN and the methods that it is compared with, one file each.

`labelaudit.benchmark.systems` lists them by name.
"""
