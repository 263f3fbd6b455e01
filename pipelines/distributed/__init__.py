"""`--engine ray`: the same line as `pipelines.generate`, cut in two and spread over machines by Ray Data.

    prompts.parquet → sampling workers → judging workers → shards of the run → the same publisher

The driver reads the prompts, keeps every finished shard on its disk and publishes them in the order of the
file, so that what comes out is what the local engine makes. Ray decides where a shard is worked on, and does
it again where a worker is lost.

    config     the options
    rows       what travels: one row a prompt
    shards     what is to do and what is done, on the driver's disk
    broker     one limit and one budget for calls over the network, for all workers
    leases     a worker's part of them, in the place of its engines' own
    ledger     what a worker's answers are noted in
    workers    who samples and who judges
    stream     the shards through the pools
    cluster    Ray itself: found or started, big enough, quiet
    crew       the pools and the broker on a cluster
    driver     hands out shards, keeps what comes back, tells it in order
    roles      the models as the workers tell of them
    generate   the job
"""
