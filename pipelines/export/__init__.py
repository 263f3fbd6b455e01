"""A run's rows as other trainers take them: one module a trainer, one strict schema a kind of row.

`job` reads the run, shapes and checks each row, writes, reads back and only then publishes; `push` uploads.
"""
