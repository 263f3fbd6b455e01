"""Questions answered through a provider's batches: at half the price, within a day.

`service`   what a provider's batches do: sent, found again, looked at, read
`openai`, `anthropic`   the two there are
`store`     what stands open where, in the ledger's file, so that no question is sent twice
`watching`  one batch until its answers are in the store
`model`     a `Model` that gathers what it is asked, sends it and waits
"""
